# Two commands from a fresh clone: `make paper` runs the pipeline, `make test` runs its tests.
# `make dashboard` serves the dashboard, on loopback.
#   ONCE=1        make paper: one run, then stop; fails when the run failed
#   ARGS="-k x"   make test: handed to pytest
#   JOBS=3        make test: files of tests side by side; most of them wait for processes. 0: one by one, in this process
#   PYTHON=path   which Python makes .venv (3.11, 3.12 or 3.13); unset: the newest of them that is found

.PHONY: paper test dashboard crash setup

# It would double every start: nothing could keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV
export PYTHON

paper:
	@deployments/bootstrap.sh
	@exec .venv/bin/keel up $(if $(filter-out 0,$(ONCE)),--once)

test:
	@deployments/bootstrap.sh dev
	@exec .venv/bin/pytest -n $(or $(JOBS),3) --dist loadfile --no-loadscope-reorder $(ARGS)

dashboard:
	@deployments/bootstrap.sh dashboard
	@exec .venv/bin/keel dashboard

# The whole fault suite (a few hours), and its grid in docs/faults.md.
crash:
	@deployments/bootstrap.sh dev
	@KEEL_CRASH_GRID=1 KEEL_CRASH_RUNS=$${KEEL_CRASH_RUNS:-10000} KEEL_COINBASE_RUNS=$${KEEL_COINBASE_RUNS:-3000} KEEL_KILLS=$${KEEL_KILLS:-500} KEEL_DATABASE_DEATHS=$${KEEL_DATABASE_DEATHS:-60} \
	  KEEL_CUTS=$${KEEL_CUTS:-400} KEEL_RACE_SLOTS=$${KEEL_RACE_SLOTS:-500} KEEL_LATE_RUNS=$${KEEL_LATE_RUNS:-500} KEEL_WORKER_KILLS=$${KEEL_WORKER_KILLS:-20} KEEL_LIFE_RUNS=$${KEEL_LIFE_RUNS:-1000} KEEL_TRIPS=$${KEEL_TRIPS:-200} \
	  .venv/bin/pytest --timeout 20000 tests/crash tests/e2e/test_outages.py tests/properties/test_order_life.py $(ARGS)

setup:
	@deployments/bootstrap.sh dev
