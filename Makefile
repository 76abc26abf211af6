.PHONY: run test check bench

setup = python=$$(scripts/find-python) && $$python scripts/setup.py

run:
	@$(setup) local
	@.venv/bin/python -m bargein run

test:
	@$(setup) local dev
	@scripts/with-chromium .venv/bin/python -m pytest

# The link gives the type checker the package, which is this directory, under its name.
check:
	@$(setup) local dev
	@mkdir -p .venv/src && ln -sfn ../.. .venv/src/bargein
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy .venv/src/bargein tests benchmarks scripts

bench:
	@$(setup) local dev
	@.venv/bin/python -m benchmarks
