"""Exact robustness of a trained network: the smallest change of the raw integers that changes the class, row by row."""

from __future__ import annotations

from mip2mcu.certify.certificate import Certificate, RowCertificate, check_radii
from mip2mcu.certify.run import certify
from mip2mcu.norms import NORMS

__all__ = ["NORMS", "Certificate", "RowCertificate", "certify", "check_radii"]
