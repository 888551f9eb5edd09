# make book   install, run every chapter, build the website in _build/html
# make test   the same run, then every test (chapters, helpers, website)
# make stability  every chapter under other seeds, victims and arithmetic:
#             benchmarks/stability.csv (hours; what is finished is kept)
# make quick  the tests that need no finished book and no patience
# make lint   ruff over the helpers, the tools, the tests and the chapters
# make arena  the arena with the knobs of parameters=FILE.yml, into
#             _build/arena.ipynb
# make audit  a report on an endpoint, into _build/audit: url= model= key= (the
#             environment variable that holds it) or predict=, then rows=
#             labels= classes= budget= price= output= timeout= seed= folder=
#             (for what was paid; one for each endpoint), and owned=yes
# make range  a hidden victim for a class to steal, with keys, a ledger and a
#             score page: students= or names=FILE, seed= level= budget= price=
#             folder= host= port=; without students it goes on with the last
# make victims  train the MNIST victim anew and say how it differs from the
#             embedded one
# make wire   install MLServer into .wire, for the chapters, tests and the
#             benchmark that sell its models (528 MB, Python 3.11 or 3.12)
# make pdf    make book, and the book as a PDF beside it (needs Chromium)
# make links  look whether the links to other sites lead somewhere
# make lock   write constraints.txt anew, from what is installed
# make clean  forget the last run and the site; the victims' cache stays
#
# python=python3.12 chooses another interpreter; jobs=4 runs more chapters
# side by side. cpu=1 takes torch's CPU wheels from PyTorch's own site (Linux:
# 0.2 instead of 2.8 GB). lock= installs without constraints.txt.
python ?= python3
jobs ?= 2
cpu ?=
lock ?= 1
torch_index ?= https://download.pytorch.org/whl/cpu
bin := .venv/bin
# Two torch threads on a busy machine are slower than one.
export OMP_NUM_THREADS ?= 1

test_folders := tests/helpers tests/techniques

.PHONY: book test quick stability lint arena audit range victims wire \
    pdf links lock clean

# A missed claim and a chapter that breaks off are results: the site is built
# and shows them, the last line counts them, and make test fails for them.
book: .venv/done
	$(bin)/python tools/run_chapters.py --jobs $(jobs) || true
	$(bin)/python tools/build_site.py

# A site that cannot be built must not keep the other tests from running.
test: .venv/done
	-$(MAKE) book
	$(bin)/python -m pytest -n $(jobs)

quick: .venv/done
	$(bin)/python -m pytest -n $(jobs) -m "not slow" $(test_folders)

stability: .venv/done
	$(bin)/python tools/run_chapters.py --jobs $(jobs) || true
	$(bin)/python tools/stability.py --jobs $(jobs)

parameters ?= benchmarks/arena_larger.yml
arena: .venv/done
	mkdir -p _build
	$(bin)/jupytext -q --to ipynb -o _build/arena.ipynb \
	    book/comparison/arena.py
	$(bin)/python -m papermill -k python3 --cwd book/comparison \
	    -f $(parameters) _build/arena.ipynb _build/arena.ipynb

asked := url model key output predict rows labels classes owned
numbers := budget price timeout seed
folder ?= _build/audit
audit: .venv/done
	mkdir -p _build
	$(bin)/jupytext -q --to ipynb -o _build/audit.ipynb \
	    book/practice/audit.py
	$(bin)/python -m papermill -k python3 -r folder '$(folder)' \
	    $(foreach name,$(asked),$(if $($(name)),-r $(name) '$($(name))')) \
	    $(foreach name,$(numbers),$(if $($(name)),-p $(name) '$($(name))')) \
	    _build/audit.ipynb _build/audit.ipynb
	cat '$(folder)/summary.txt'

ranged := students names seed level budget price folder host port
range: folder := _build/range
range: .venv/done
	$(bin)/python tools/practice_range.py \
	    $(foreach name,$(ranged),$(if $($(name)),--$(name) '$($(name))'))

victims: .venv/done
	$(bin)/python tools/make_victims.py

# In an environment of its own, since it pins what the book does not.
wire: .wire/done

.wire/done:
	$(python) -c "import sys; sys.exit(sys.version_info[:2] not in \
	    [(3, 11), (3, 12)] \
	    and 'MLServer needs Python 3.11 or 3.12: make python=python3.12 wire')"
	$(python) -m venv .wire
	.wire/bin/python -m pip install -q mlserver==1.7.1 \
	    mlserver-sklearn==1.7.1
	touch $@

lint: .venv/done
	$(bin)/ruff check .
	$(bin)/ruff format --check .

pdf: .venv/done
	$(bin)/python tools/run_chapters.py --jobs $(jobs) || true
	$(bin)/python tools/build_site.py --pdf

# A link that is broken fails; one that only sends on does not.
links: .venv/done
	$(bin)/python tools/run_chapters.py --jobs $(jobs) || true
	$(bin)/python tools/build_site.py
	$(bin)/python tools/check_links.py

lock: .venv/done
	$(bin)/python tools/lock.py

# The lock must keep nobody from the book: where it cannot be met, as on a
# Python or a mirror that lacks one of its versions, it is left out.
.venv/done: requirements.txt pyproject.toml constraints.txt
	$(python) -c "import sys; sys.exit(not \
	    (3, 11) <= sys.version_info[:2] <= (3, 14) \
	    and 'Python 3.11 to 3.14 is needed: make python=python3.12 book')"
	$(python) -m venv .venv
ifneq ($(cpu),)
	$(bin)/python -m pip install -q --index-url $(torch_index) \
	    $$(sed -n 's/^\(torch[a-z]*==[^ ]*\).*/\1/p' requirements.txt)
endif
	$(bin)/python -m pip install -q -r requirements.txt \
	    $(if $(lock),-c constraints.txt) || { test -n "$(lock)" && \
	    echo "constraints.txt cannot be met here: installing without it" && \
	    $(bin)/python -m pip install -q -r requirements.txt; }
	$(bin)/python -m pip install -q --no-deps -e .
	touch $@

clean:
	rm -rf _build
