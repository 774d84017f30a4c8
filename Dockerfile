# The gateway alone: one static binary, the certificates that it trusts and
# three folders that it may write to. There is no shell, nobody is root, and
# the root filesystem can be read-only.
#
#	docker build --build-arg VERSION="$(git describe --tags --always --dirty)" --tag scopegate .
#	docker run --read-only --cap-drop ALL \
#	    --volume ./Caddyfile:/etc/scopegate/Caddyfile:ro \
#	    --volume ./master-token:/run/secrets/goodaccess:ro \
#	    --volume scopegate-audit:/var/log/scopegate \
#	    --tmpfs /run/scopegate:uid=65532,gid=65532,mode=0700 \
#	    --volume scopegate-state:/var/lib/scopegate \
#	    scopegate
#
# deploy/ has this for Docker Compose and Kubernetes.

# Any image with this version of Go, a shell and certificates will do, such as
# one that your own registry holds.
ARG BUILDER=docker.io/library/golang:1.26-bookworm

# What `scopegate version`, scopegate_build_info and the image's label say. The
# build has no history to find it in.
ARG VERSION=devel

# Go compiles for any platform by itself, so that no emulation is needed.
FROM --platform=${BUILDPLATFORM} ${BUILDER} AS build
WORKDIR /src
# The modules first: they change less often than the code.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -trimpath -buildvcs=false -tags=nobadger,nomysql,nopgx \
        -ldflags="-s -w -X 'github.com/scopegate/scopegate/buildinfo.linked=${VERSION}'" \
        -o /image/usr/bin/scopegate ./cmd/scopegate && \
    mkdir -p -m 0700 /writable

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /image/ /
# The audit log, sockets, and what Caddy keeps (certificates of an edge).
COPY --from=build --chown=65532:65532 /writable /var/log/scopegate
COPY --from=build --chown=65532:65532 /writable /run/scopegate
COPY --from=build --chown=65532:65532 /writable /var/lib/scopegate
# The rest is for commands in the container: `docker exec gateway scopegate key list`.
ENV XDG_DATA_HOME=/var/lib/scopegate/data XDG_CONFIG_HOME=/var/lib/scopegate/config \
    SCOPEGATE_CONFIG=/etc/scopegate/Caddyfile PATH=/usr/bin

ARG VERSION
LABEL org.opencontainers.image.title=scopegate \
      org.opencontainers.image.description="A gateway that gives teams narrower credentials for the GoodAccess API" \
      org.opencontainers.image.source=https://github.com/scopegate/scopegate \
      org.opencontainers.image.version=${VERSION}

# A number, so that an orchestrator can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/usr/bin/scopegate"]
CMD ["run", "--config", "/etc/scopegate/Caddyfile"]
# Asks readyz on 127.0.0.1:8080; a gateway that listens elsewhere overrides it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/bin/scopegate", "health"]
