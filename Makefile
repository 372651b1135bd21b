# Two commands from a fresh clone: `make paper` runs the pipeline, `make test` runs its tests.
#   ONCE=1        make paper: one run, then stop; fails when the run failed
#   ARGS="-k x"   make test: handed to pytest
#   PYTHON=path   which Python makes .venv (3.11, 3.12 or 3.13); unset: the newest of them that is found

.PHONY: paper test setup

# It would double every start: nothing could keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV
export PYTHON

paper:
	@deployments/bootstrap.sh
	@exec .venv/bin/keel up $(if $(filter-out 0,$(ONCE)),--once)

test:
	@deployments/bootstrap.sh dev
	@exec .venv/bin/pytest $(ARGS)

setup:
	@deployments/bootstrap.sh dev
