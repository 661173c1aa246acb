"""What CPNS costs: ``python -m bench`` measures, ``python -m bench.profile`` shows where it goes."""
