"""Each vendor's dialect: where model, usage and the last chunk are. Pure."""
