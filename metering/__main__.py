"""`python -m metering` is the command `xproxy`."""

from metering.cli import main

if __name__ == "__main__":
    main(prog_name="xproxy")
