"""`python -m mip2mcu` is the command `mip2mcu`."""

from mip2mcu.cli import main

main(prog_name="mip2mcu")
