# syntax=docker/dockerfile:1

# The server alone: Redis runs elsewhere (REDIS_URL). compose.yaml shows the whole.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# What .dockerignore lets through.
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin chat-server && \
    cp target/release/chat-server /usr/local/bin/chat-server

# The C library, root certificates (for rediss://) and a user; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /usr/local/bin/chat-server /usr/local/bin/chat-server
ENV APP_ENV=production \
    HOST=0.0.0.0 \
    PORT=3000
EXPOSE 3000
# By number, so that whoever runs it can see that it is not root.
USER 65532:65532
# Whether it runs. Not whether Redis is there: a server without Redis keeps its devices, and must not be started anew for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/chat-server", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/chat-server"]
