# One image for server and agent: the `pocketci` binary.
#   docker build .                     builds from source
#   docker build --target prebuilt .   takes target/release/pocketci, built on this machine
FROM debian:bookworm-slim AS runtime
# For the resource type git of YAML pipelines.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates git openssh-client && rm -rf /var/lib/apt/lists/*
RUN useradd --system --create-home --home-dir /var/lib/pocketci pocketci
WORKDIR /var/lib/pocketci
EXPOSE 8080 9090
ENTRYPOINT ["pocketci"]

# Before the builder, so that builders which go through the stages in order need no Rust image for it.
FROM runtime AS prebuilt
COPY target/release/pocketci /usr/local/bin/pocketci
USER pocketci
CMD ["server", "--host", "0.0.0.0"]

FROM rust:1-bookworm AS builder
WORKDIR /src
COPY . .
RUN cargo build --locked --profile dist -p pocketci

FROM runtime
COPY --from=builder /src/target/dist/pocketci /usr/local/bin/pocketci
USER pocketci
CMD ["server", "--host", "0.0.0.0"]
