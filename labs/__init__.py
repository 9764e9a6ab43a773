"""Laboratories: topologies in network namespaces with real routing daemons, for `make lab`, tests and benchmarks."""
