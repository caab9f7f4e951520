"""Each client family's dialect: paths and error grammar. Pure."""
