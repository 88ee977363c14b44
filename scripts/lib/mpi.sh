# shellcheck shell=bash
# Requirements of the cargo feature `mpi`: an MPI library with its headers, mpirun, and the libclang that reads the headers. Sourced
# after common.sh.

need_mpi() { need_packages openmpi-bin libopenmpi-dev libclang-dev; }
