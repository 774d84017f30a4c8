# Shorthands. .ci/run is what has to pass before a change lands.

export GOFLAGS = -tags=nobadger,nomysql,nopgx

FUZZTIME ?= 30s

.PHONY: test lint fuzz bench ci image

test:
	go test -race ./...

lint:
	golangci-lint run

# Every fuzz target in turn, each for FUZZTIME.
fuzz:
	@go test -list '^Fuzz' ./... | awk '/^Fuzz/ { t[n++] = $$1 } \
		/^ok/ { for (i = 0; i < n; i++) print $$2, t[i]; n = 0 }' | \
	while read -r package target; do \
		go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) "$$package" || exit 1; \
	done

# What a request costs beside a bare reverse_proxy and others; less than ten minutes.
bench:
	go run ./bench/compare --markdown docs/performance.md --chart docs/performance.svg

ci:
	bash .ci/run

image:
	docker build --build-arg VERSION="$$(git describe --tags --always --dirty)" --tag scopegate .
