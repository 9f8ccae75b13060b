# Everything a developer or CI does. `make run` and `make test` need Python 3.11+ and nothing else.
PYTHON ?= python3
VENV ?= .venv
CODEGEN ?= .venv-codegen
CLIENT_VENV ?= .venv-client
TOOLS ?= .tools
FUZZ_VENV ?= .venv-fuzz
DOCS_VENV ?= .venv-docs
FUZZ_FOUND ?= .tools/fuzz
FUZZ_S ?= 60
TEST_JOBS ?= 4
FUZZ_JOBS ?= 2
FUZZ_TARGETS := container index frame metadata ext zstd
BIN := $(VENV)/bin
BUF := $(TOOLS)/node_modules/.bin/buf
PROTOS := $(sort $(wildcard proto/des_proto/v1/*.proto))
IMAGE := $(TOOLS)/des.binpb

.PHONY: docs docs-serve s3-server run test test-slow test-client sync-client grpc-tools examples compat fuzz fuzz-corpus check lint types imports proto proto-check proto-accept demo demo-ingest bench format clean

run: $(VENV)/.ready ## Start a store on this machine: SQLite, a local directory, loopback.
	$(BIN)/des serve

test: $(VENV)/.ready test-client ## Every test but the slow ones.
# In the order of the folders: the long tests, end to end, begin first, so that one does not run alone at the end.
	$(BIN)/pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder --timeout 300 -m "not slow" tests

test-slow: $(VENV)/.ready ## The long forms: kill -9 loops, large simulations.
	$(BIN)/pytest -m slow --timeout 1800 tests

torture: $(VENV)/.ready ## A cluster under faults for long: DES_TORTURE_FAULTS of them, drawn from DES_TEST_SEED.
	$(BIN)/pytest -s -m slow --timeout 7200 tests/e2e/test_cluster.py tests/e2e/test_cluster_namespaces.py

test-client: $(CLIENT_VENV)/.ready ## The client's tests, where neither des nor des_server is installed.
	$(CLIENT_VENV)/bin/pytest -c client/pytest.ini client/tests

fuzz: $(FUZZ_VENV)/.ready ## Fuzz everything that reads foreign bytes, FUZZ_S seconds each, FUZZ_JOBS at once.
	printf '%s\n' $(FUZZ_TARGETS) | \
	  xargs -P $(FUZZ_JOBS) -I TARGET tests/fuzz/run.sh $(FUZZ_VENV)/bin/python TARGET $(FUZZ_S) $(FUZZ_FOUND)

fuzz-corpus: $(VENV)/.ready ## Make the inputs that fuzzing starts from anew.
	$(BIN)/python tests/fuzz/make_corpus.py

check: $(VENV)/.ready lint types imports proto-check ## What CI checks besides the tests.

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/make_sync_client.py --check

sync-client: $(VENV)/.ready ## Make the blocking client from the asyncio client.
	$(BIN)/python scripts/make_sync_client.py

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.ready
	$(BIN)/mypy

imports: $(VENV)/.ready
	$(BIN)/lint-imports

s3-server: ## A real S3 server over a plain folder, for trying out and for tests (needs Go).
	scripts/s3_server.sh run

demo: $(VENV)/.ready ## Put a real tree of small files, read it back, compare.
	$(BIN)/python scripts/demo.py

demo-ingest: $(VENV)/.ready ## Rows of three databases become files, with the workers killed at random.
	$(BIN)/python scripts/demo_ingest.py

bench: $(VENV)/.ready ## The figures: puts, gets, streams, log, recovery.
	$(BIN)/python benchmarks/run_all.py

# --- generated code -------------------------------------------------------------------------

proto: $(CODEGEN)/.ready ## Make the Python code, stubs and des.protoset from the protos.
	scripts/generate_proto.sh $(CODEGEN)/bin/python proto
	scripts/proto_image.sh $(CODEGEN)/bin/python proto/des.protoset --plain

proto-check: $(CODEGEN)/.ready $(BUF) ## Lint, compatibility with the accepted API, generated code unchanged.
	mkdir -p $(TOOLS)
	scripts/generate_proto.sh $(CODEGEN)/bin/python $(TOOLS)/generated
	diff -r -x '*.proto' -x '__pycache__' -x '__init__.py' $(TOOLS)/generated/des_proto/v1 proto/des_proto/v1
	scripts/proto_image.sh $(CODEGEN)/bin/python $(IMAGE)
	scripts/proto_image.sh $(CODEGEN)/bin/python $(TOOLS)/des.protoset --plain
	cmp $(TOOLS)/des.protoset proto/des.protoset
	cd proto && $(abspath $(BUF)) format -d --exit-code .
	cd proto && $(abspath $(BUF)) lint $(abspath $(IMAGE)) --path des_proto/v1
	cd $(TOOLS) && $(abspath $(BUF)) breaking $(abspath $(IMAGE)) --against $(abspath proto/accepted.binpb) --config $(abspath proto/buf.yaml) --path des_proto/v1

proto-accept: $(CODEGEN)/.ready ## Make today's protos the API that later ones must not break.
	scripts/proto_image.sh $(CODEGEN)/bin/python proto/accepted.binpb

# --- environments ---------------------------------------------------------------------------

$(VENV)/.ready: pyproject.toml proto/pyproject.toml client/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "DES needs Python 3.11 or newer, found " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e proto -e client -e '.[test,check]'
	touch $@

$(CLIENT_VENV)/.ready: proto/pyproject.toml client/pyproject.toml
	$(PYTHON) -m venv $(CLIENT_VENV)
	$(CLIENT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e proto -e 'client[test]'
	touch $@

$(FUZZ_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(FUZZ_VENV)
	$(FUZZ_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e proto -e client -e '.[fuzz]'
	touch $@

$(DOCS_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e proto -e client -e '.[docs]'
	touch $@

$(CODEGEN)/.ready: scripts/codegen-requirements.txt
	$(PYTHON) -m venv $(CODEGEN)
	$(CODEGEN)/bin/python -m pip install --quiet --disable-pip-version-check -r scripts/codegen-requirements.txt
	touch $@

$(BUF):
	@command -v npm >/dev/null || { echo "buf comes from npm: install Node.js (apt-get install npm)"; exit 1; }
	npm install --silent --no-fund --no-audit --prefix $(TOOLS) @bufbuild/buf@1.75.0

grpc-tools: $(BUF) ## grpcurl and grpc-health-probe, for the test of docs/grpcurl.md. Needs Go.
	scripts/install_grpc_tools.sh $(TOOLS)/bin

examples: $(CODEGEN)/.ready ## Compile the Go and TypeScript programs of docs/clients.md. Needs Go and npm.
	scripts/build_examples.sh go $(TOOLS)/example-go $(CODEGEN)/bin/python
	scripts/build_examples.sh typescript $(TOOLS)/example-typescript $(CODEGEN)/bin/python

compat: ## Wheels into empty environments: the client with the oldest and newest gRPC, the whole as installed.
	PYTHON=$(PYTHON) scripts/compat.sh $(TOOLS)/compat

docs: $(DOCS_VENV)/.ready ## The documentation site, in .tools/site; a broken link or reference is an error.
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --site-dir $(TOOLS)/site
	$(DOCS_VENV)/bin/python scripts/check_site.py $(TOOLS)/site

docs-serve: $(DOCS_VENV)/.ready ## The same at http://127.0.0.1:8000, built anew at every change.
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs serve

clean:
	rm -rf $(VENV) $(FUZZ_VENV) $(DOCS_VENV) $(CODEGEN) $(CLIENT_VENV) $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .hypothesis
