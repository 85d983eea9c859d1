"""mip2mcu: integer neural networks trained by mixed-integer programming, as verified C for microcontrollers."""

__version__ = "0.1.0"
