# The two commands that matter: `make test` and `cargo run --release -- quickstart`.

.PHONY: bench-import bench-leases bench-logins chaos test lint docs generate page size

# Everything: installs what is missing where it may, starts its own servers, ends with a summary.
test:
	@tests/suite/run

# What the build pipeline checks beside the tests.
lint:
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Rewrites the generated Rust and Python code from proto/.
generate:
	cargo run -p usm-codegen
	python3 clients/python/generate.py

# Rewrites the built page that the binary carries, from miniapp/src. Needs Node.
page:
	cd miniapp && npm ci --no-audit --no-fund && npm run build

# Start-up time, idle memory and size of the release build, against their budgets.
size:
	@tests/suite/size

# Memory per pending QR login, against its budget and beside a Telethon client for each. Takes about ten minutes.
bench-logins:
	@tests/suite/bench-logins

# Leases per second beside the bare statement and etcd, against targets. Takes about twelve minutes after the build.
bench-leases:
	@tests/suite/bench-leases

# Sessions converted and imported per second beside other converters, against targets.
bench-import:
	@tests/suite/bench-import

# Hurts the whole service for DURATION seconds while workers share sessions; see docs/chaos.md. SEED repeats a run.
chaos:
	@tests/suite/chaos --duration $(or $(DURATION),120) $(if $(SEED),--seed $(SEED))
