"""Compilers for devices that you need not own: they turn modules into executables and report kernel schedules."""
