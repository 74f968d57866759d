"""Compilers of devices that need not be here: modules to executables, and what the compiler says of its schedules."""
