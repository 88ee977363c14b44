# The server with the page and the shipped model, from the root of the repository:
#
#   docker build --file deploy/container/server.Dockerfile --tag dalle .
#   docker run --publish 8080:8080 dalle
#
# Put it behind a proxy that terminates TLS (deploy/page), and give the proxy's name with --env DALLE_ALLOW_HOST=dalle.example.org.
FROM rust:1.95-bookworm AS build
RUN rustup target add wasm32-unknown-unknown
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package dalle-backend && cp target/release/dalle-server /usr/local/bin
RUN scripts/build-site /site

FROM debian:bookworm-slim
RUN useradd --uid 1000 dalle
COPY --from=build /usr/local/bin/dalle-server /usr/local/bin/dalle-server
COPY --from=build /site /srv/dalle
COPY assets/models/drawings-128 /srv/model
USER dalle
ENV DALLE_HOST=0.0.0.0 DALLE_PORT=8080 DALLE_MODEL=/srv/model DALLE_SITE=/srv/dalle
EXPOSE 8080
CMD ["dalle-server"]
