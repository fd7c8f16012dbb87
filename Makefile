# The commands that people use. Whatever they need beyond Go, Python 3, pip
# and apt, they install.
.DEFAULT_GOAL := help
SHELL := bash
include versions.env

# smallstep's database drivers are not linked: devca needs none.
TAGS  := nobadger,nobadgerv1,nobadgerv2,nomysql,nopgx
FLAGS := -trimpath -buildvcs=false -tags $(TAGS)
export PATCHBAY_ENVOY := $(CURDIR)/.tools/bin/envoy
ARGS ?=

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## all programs into ./bin
	CGO_ENABLED=0 go build $(FLAGS) -ldflags='-s -w' -o bin/ ./cmd/...

demo: build demo-needs ## the whole mesh on this machine (ARGS=--once proves it and stops)
	./bin/patchbay demo $(ARGS)

test: build test-needs ## every check and test
	test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	PATH="$(CURDIR)/.tools/aws:$$PATH" go test -race -vet=all -shuffle=on -tags $(TAGS) -timeout 10m ./...

bench: build bench-needs ## measure, and write docs/benchmarks.md (ARGS='--only push', --quick)
	./bin/bench $(ARGS)

broken-meshes: test-needs ## every mesh of testdata/broken, diagnosed
	go test -tags $(TAGS),broken -count=1 -parallel 8 -timeout 8m -run '^TestBrokenMeshes$$' ./cmd/patchbay

fault-rows: test-needs ## ill registries and CAs, stale replicas, wrong clocks, under requests through real Envoys (FULL=1: in full length)
	PATCHBAY_FAULT_ROWS=$(if $(FULL),full) go test -tags $(TAGS),faultrows -count=1 -v -timeout $(if $(FULL),20m,6m) -run 'Rows?$$' ./cmd/patchbay

guides: test-needs ## every command of the guides about policies, health, targets outside and traces, on real Envoys
	go vet -tags $(TAGS),guides ./cmd/patchbay
	go test -tags $(TAGS),guides -race -count=1 -timeout 8m -run '^Test[A-Z][a-z]+Guide$$' ./cmd/patchbay

compose-test: build compose-needs images ## the mesh in containers, proved
	scripts/compose-test.sh

images: build compose-needs ## container images, without a container registry
	scripts/images.sh

fuzz: ## every fuzz target (SECONDS_EACH=30 ONLY='xds/delta declare')
	SECONDS_EACH=$(SECONDS_EACH) scripts/fuzz.sh $(ONLY)

nightly: demo-needs ## what takes long: fuzzing for ten minutes each, long histories on a real Envoy, an hour of churn
	$(MAKE) fuzz SECONDS_EACH=600 ONLY='xds declare'
	$(MAKE) xds-soak OPS=10000 SEED=$$RANDOM
	$(MAKE) xds-churn DURATION=1h
	$(MAKE) corners SEED=$$RANDOM

xds-soak: demo-needs ## a random history against a real Envoy, compared all the time (OPS=10000 SEED=1)
	PATCHBAY_SOAK_OPS=$(or $(OPS),10000) PATCHBAY_SOAK_SEED=$(or $(SEED),1) go test -tags $(TAGS) -count=1 -v -timeout 60m -run TestAnyHistoryOnTheRealEnvoy ./xds

corners: demo-needs ## declarations of chance, from the corners of what is accepted, against a real Envoy (COUNT=1000 SEED=1)
	PATCHBAY_CORNERS=$(or $(COUNT),1000) PATCHBAY_CORNERS_SEED=$(or $(SEED),1) go test -tags $(TAGS) -count=1 -timeout 60m -run TestNoDeclarationIsRejectedByEnvoy ./xds

xds-churn: build ## changes and streams that come and go, and whether memory stays flat (DURATION=10m)
	./bin/bench --only endurance --for $(or $(DURATION),10m) $(ARGS)

lint: ## golangci-lint with the import rules (builds the linter: minutes)
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION) run

page: ## what the page has from others, by npm, into admin/page/vendor
	scripts/page.sh

page-bench: test-needs ## the page of a thousand sidecars: from a change to the screen
	go test -tags $(TAGS) -count=1 -run "^$$" -bench Thousand -benchtime 8x ./admin/page

pictures: test-needs ## the pictures of docs/pictures, by the page's test
	go test -tags $(TAGS) -count=1 -run TestReadable ./admin/page -update

docs: ## write the pages that are generated (docs/reference/cli.md)
	go test -tags $(TAGS) -count=1 -run '^TestPage$$' ./cmd/patchbay -update

man: ## manual pages of all commands into bin/man
	PATCHBAY_MAN=$(CURDIR)/bin/man go test -tags $(TAGS) -count=1 -run '^TestManPages$$' ./cmd/patchbay

proto: ## generate agentapi from agent.proto
	scripts/apt.sh protobuf-compiler libprotobuf-dev
	GOBIN=$(CURDIR)/.tools/bin go install google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION)
	GOBIN=$(CURDIR)/.tools/bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GO_GRPC_VERSION)
	PATH=$(CURDIR)/.tools/bin:$$PATH protoc -I agentapi -I /usr/include --go_out=. --go_opt=module=patchbay \
	  --go-grpc_out=. --go-grpc_opt=module=patchbay agent.proto

clean: ## remove what was built and fetched
	rm -rf bin .tools .demo

demo-needs:
	scripts/apt.sh iproute2 util-linux curl openssl
	scripts/envoy.sh

test-needs: demo-needs
	scripts/apt.sh gcc libc6-dev awscli python3-boto3 iptables nftables systemd chromium prometheus etcd-server
	scripts/apt.sh bash-completion zsh fish
	scripts/awscli.sh

bench-needs: demo-needs
	scripts/apt.sh wrk nghttp2-client valgrind chromium
	test -x .tools/bin/fortio || GOBIN=$(CURDIR)/.tools/bin CGO_ENABLED=0 go install fortio.org/fortio@$(FORTIO_VERSION)

compose-needs:
	scripts/apt.sh docker.io docker-compose iptables iproute2 util-linux
	scripts/envoy.sh

.PHONY: help build demo test bench broken-meshes fault-rows guides compose-test images fuzz xds-soak lint page pictures docs proto clean demo-needs test-needs bench-needs compose-needs
.PHONY: nightly xds-churn corners
.PHONY: page-bench man
