# The command `dalle` with MPI, for clusters (docs/cluster.md), from the root of the repository:
#
#   docker build --file deploy/container/train.Dockerfile --tag dalle-train .
#   docker build --file deploy/container/train.Dockerfile --tag dalle-train --build-arg FEATURES=mpi,cuda .
#
# With CUDA, start it with NVIDIA's container runtime, which provides the driver.
FROM rust:1.95-bookworm AS build
ARG FEATURES=mpi
RUN apt-get update && apt-get install --yes --no-install-recommends libopenmpi-dev libclang-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package dalle-cli --features "$FEATURES"

FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends openmpi-bin openssh-server openssh-client && \
    rm -rf /var/lib/apt/lists/* && useradd --create-home --uid 1000 dalle
COPY --from=build /src/target/release/dalle /usr/local/bin/dalle
USER dalle
# What the MPI Operator expects of a worker: sshd as an ordinary user.
RUN printf 'Port 2222\nPidFile /home/dalle/sshd.pid\nHostKey /home/dalle/.ssh/id_rsa\nStrictModes no\n' >/home/dalle/.sshd_config && \
    mkdir /home/dalle/.ssh && \
    printf 'Host *\n  Port 2222\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n' >/home/dalle/.ssh_config
ENTRYPOINT []
CMD ["dalle", "--help"]
