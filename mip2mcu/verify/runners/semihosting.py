"""The emulator's side of semihosting: the requests of firmware/semihosting.h, served from memory.

A request is an operation number and the address of its arguments, 32-bit words (except for the console string). What
firmware/platform_semihosting.c opens as "frames.in" and "frames.out" are bytes here, never files.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from mip2mcu.errors import VerifyError

OPEN, CLOSE, WRITE0, WRITE, READ, EXIT_EXTENDED = 0x01, 0x02, 0x04, 0x05, 0x06, 0x20
_INPUT, _OUTPUT = 1, 2
_WRITE_MODE = 4
_STRING_LIMIT = 4096


@dataclass
class Semihosting:
    """State of one run: what the program reads, what it has written, and its exit status once it has ended."""

    frames: bytes
    read_memory: Callable[[int, int], bytes]
    write_memory: Callable[[int, bytes], None]
    position: int = 0
    output: bytearray = field(default_factory=bytearray)
    console: bytearray = field(default_factory=bytearray)
    status: int | None = None

    def serve(self, operation: int, argument: int) -> int:
        """Serve one request; returns what goes into the result register."""
        if operation == WRITE0:
            return self._write_string(argument)
        _, second, third = struct.unpack("<3I", self.read_memory(argument, 12))
        if operation == OPEN:
            return _INPUT if second < _WRITE_MODE else _OUTPUT
        if operation == CLOSE:
            return 0
        if operation == READ:
            return self._read(second, third)
        if operation == WRITE:
            self.output += self.read_memory(second, third)
            return 0
        if operation == EXIT_EXTENDED:
            self.status = second
            return 0
        raise VerifyError(f"the program asks for semihosting operation {operation:#04x}, which is not emulated")

    def _read(self, address: int, size: int) -> int:
        piece = self.frames[self.position : self.position + size]
        self.position += len(piece)
        self.write_memory(address, piece)
        return size - len(piece)

    def _write_string(self, address: int) -> int:
        for k in range(_STRING_LIMIT):
            byte = self.read_memory(address + k, 1)
            if byte == b"\0":
                break
            self.console += byte
        return 0
