"""Programs that measure and print tables; see README.md in this folder."""
