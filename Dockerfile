# syntax=docker/dockerfile:1
# Weir alone; its catalog's PostgreSQL is another container (docker-compose.yml).

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin weir && cp target/release/weir /weir

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/weir --create-home weir
COPY --from=build /weir /usr/local/bin/weir
USER weir
ENV WEIR_DATA_DIR=/var/lib/weir WEIR_LISTEN=0.0.0.0:8080 WEIR_LOG_FORMAT=json
VOLUME /var/lib/weir
EXPOSE 8080
ENTRYPOINT ["weir"]
CMD ["serve"]
