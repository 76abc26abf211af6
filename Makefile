.PHONY: run test check bench bench-turns docs

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

# The API reference is read from an installed copy.
docs:
	@$(setup) local docs
	@rm -rf build/package
	@.venv/bin/python -m pip install --quiet --no-deps --target build/package .
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build
	@echo "open build/docs/index.html"

bench:
	@$(setup) local dev
	@.venv/bin/python -m benchmarks

# Voices that are not the bot's; without them there are fewer.
bench-turns:
	@$(setup) local dev bench
	@test -d /usr/share/asterisk/sounds/en_US_f_Allison || scripts/apt-install flite asterisk-core-sounds-en-g722 || true
	@.venv/bin/python -m benchmarks.turns
