# `make help` lists the targets. Go is all that most of them need; azurite, and so test, want Node with npm.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Where goroutines share things, and the race detector earns its time.
RACE ?= ./emulator/... ./internal/...
NPM := internal/azurite/npm
AZURITE := .azurite

# Compiled as `persistor generate` compiles handlers, so that its tests find all packages compiled.
lint test soak: export CGO_ENABLED = 0
lint test soak: export GOFLAGS += -trimpath

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## drain an Event Hub that runs on this machine, and audit the outcome
	go run ./cmd/persistor demo

.PHONY: test
test: azurite ## run every test, Azurite included
	AZURITE_REQUIRED=1 go test -timeout 20m ./...

.PHONY: race
race: azurite ## run the tests with the race detector, the long ones in their short form
# One package at a time: many tests hold programs to deadlines, and the detector slows them down tenfold.
	AZURITE_REQUIRED=1 go test -race -short -p 1 -timeout 30m $(RACE)

.PHONY: soak
soak: azurite ## run the kill tests at full count; takes up to an hour
	AZURITE_REQUIRED=1 PERSISTOR_SOAK=1 go test -count 1 -timeout 90m ./...

.PHONY: bench
bench: ## measure, and print the table of docs/benchmarks.md
	go run ./bench

.PHONY: lint
lint: ## check format, vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...

.PHONY: azurite
azurite: $(AZURITE)/installed ## install Azurite into .azurite, once per lock file

# Without the lock file npm would choose versions of its own; without scripts none of the packages
# runs anything at installation.
$(AZURITE)/installed: $(NPM)/package.json $(NPM)/package-lock.json $(NPM)/.npmrc
	mkdir -p $(AZURITE)
	cp $^ $(AZURITE)/
	cd $(AZURITE) && npm ci
	touch $@
