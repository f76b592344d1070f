# make builds build/fp8/core.so and, where nvcc is found, build/fp8/cuda.so; `make help` lists the other targets.
#
# Worth overriding: CC, CXX, CFLAGS, CUDA_HOME, CUDA_ARCHS (`make CUDA_ARCHS=90` builds faster), NVCC= (no CUDA), PREFIX,
# DESTDIR, SPEC (the specs that test, memcheck and sanitize run), TOOL (of sanitize), READER and TIME (of fuzz: what is read, and
# for how many seconds each), INPUT (a finding for fuzz to read again), BENCH (the benchmarks), ARGS (arguments of the demo,
# the benchmarks or busted).

CFLAGS     ?= -O3
NVCCFLAGS  ?= -O3
CUDA_ARCHS ?= 80 90
PREFIX     ?= /usr/local
LUADIR     ?= $(PREFIX)/share/lua/5.1
LIBDIR     ?= $(PREFIX)/lib/lua/5.1
BINDIR     ?= $(PREFIX)/bin
BUILD      ?= build
SPEC       ?= spec
TOOL       ?= memcheck
READER     ?= safetensors idx checkpoint recipe npy npz csv
TIME       ?= 60
INPUT      ?=
BENCH      ?= examples/bench/linear.lua examples/bench/quantize.lua

# One goal is built on all cores; several run one after the other, so that `make clean all` does what it says.
ifeq ($(MAKELEVEL)$(word 2,$(MAKECMDGOALS)),0)
MAKEFLAGS += -j$(shell nproc)
endif
.DELETE_ON_ERROR:

# Recipes of the build print a short line; V=1 shows the commands.
V ?=
say = $(if $(V),,@printf '%-5s %s\n' $(1) $@;)

# ---- The CPU part -----------------------------------------------------------------------------------------------------

CORE_SOURCES := $(sort $(shell find src/core src/ops src/cpu src/lua -name '*.c' -o -name '*.cpp'))
CORE_OBJECTS := $(CORE_SOURCES:%=$(BUILD)/%.o)
LUAJIT_CFLAGS ?= $(shell pkg-config --cflags luajit 2>/dev/null || echo -I/usr/include/luajit-2.1)
LUAJIT_LIBS ?= $(shell pkg-config --libs luajit 2>/dev/null || echo -lluajit-5.1)

# No contraction of a * b + c: the CPU and the kernels must round alike, bit for bit. Loops with square roots vectorize only
# where errno and traps need no care; results stay the same.
C_FLAGS = -std=gnu11 $(CFLAGS) -ffp-contract=off -fno-math-errno -fno-trapping-math -fopenmp -fPIC -fvisibility=hidden -Wall -Wextra -MMD -MP -Isrc

# nodelete: OpenMP's threads sleep inside their library for as long as the process lives, so closing a Lua state must not
# unload it. Lua's own symbols come from the interpreter.
LINK_FLAGS = -shared $(CFLAGS) $(LDFLAGS) -Wl,-z,nodelete -Wl,--as-needed

# What was built, as far as it was asked for: a library of an earlier build is none of them.
LIBRARIES := $(BUILD)/fp8/core.so

all: $(BUILD)/fp8/core.so ## build the CPU part and, where nvcc is found, the CUDA part (the default)
	@:

$(BUILD)/fp8/core.so: $(CORE_OBJECTS)
	@mkdir -p $(@D)
	$(call say,link)$(CC) -o $@ $^ $(LINK_FLAGS) -fopenmp -lopenblas -ldnnl -lstdc++ -lm

$(BUILD)/src/%.cpp.o: src/%.cpp Makefile | $(BUILD)/.ready
	@mkdir -p $(@D)
	$(call say,c++)$(CXX) $(CFLAGS) -fPIC -fvisibility=hidden -Wall -Wextra -MMD -MP -Isrc -c -o $@ $<

$(BUILD)/src/%.c.o: src/%.c Makefile | $(BUILD)/.ready
	@mkdir -p $(@D)
	$(call say,cc)$(CC) $(C_FLAGS) $(LUAJIT_CFLAGS) -c -o $@ $<

# Missing headers are named once, with their packages, instead of by the first file that includes one.
$(BUILD)/.ready:
	@.ci/setup --check build
	@mkdir -p $(@D) && touch $@

# ---- The CUDA part ----------------------------------------------------------------------------------------------------

CUDA_HOME ?= /usr/local/cuda
NVCC := $(firstword $(wildcard $(CUDA_HOME)/bin/nvcc) $(shell command -v nvcc 2>/dev/null))
CUDA := $(NVCC:%/bin/nvcc=%)
CUDA_OBJECTS := $(patsubst %,$(BUILD)/%.o,$(sort $(shell find src/cuda -name '*.c'; find kernels -name '*.cu')))

# Machine code for each architecture (of Hopper the full set, 90a), and PTX of the last one for whatever comes after it.
NVCC_ARCHS = $(foreach arch,$(CUDA_ARCHS:90=90a),-gencode arch=compute_$(arch),code=sm_$(arch)) \
  -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS))
NVCC_FLAGS = -std=c++17 $(NVCCFLAGS) --fmad=false -Xcompiler -fPIC,-fvisibility=hidden -Isrc -Ikernels $(NVCC_ARCHS)

ifneq ($(and $(NVCC),$(CUDA_OBJECTS)),)
all: $(BUILD)/fp8/cuda.so
LIBRARIES += $(BUILD)/fp8/cuda.so
endif

cuda: ## build the CUDA part, or say why it cannot be built
	@if [ -z '$(NVCC)' ]; then \
	  echo 'make cuda: no nvcc in $(CUDA_HOME)/bin (set CUDA_HOME) or in PATH' >&2; exit 1; fi
	@$(MAKE) --no-print-directory $(BUILD)/fp8/cuda.so

# cuda.so needs core.so by its bare name and finds it in its own folder: the very file that Lua has loaded, so the process
# holds one copy of it. The CUDA runtime is linked in and stays private; cuBLASLt is the one CUDA library needed.
$(BUILD)/fp8/cuda.so: $(CUDA_OBJECTS) $(BUILD)/fp8/core.so
	$(call say,link)$(CC) -o $@ $(CUDA_OBJECTS) $(LINK_FLAGS) -Wl,-rpath,'$$ORIGIN:$(CUDA)/lib64' -Wl,--exclude-libs,ALL \
	  -L$(@D) -l:core.so -L$(CUDA)/lib64 -lcublasLt -lcudart_static -lstdc++ -lrt -lpthread -ldl -lm

$(BUILD)/src/cuda/%.c.o: C_FLAGS += -I$(CUDA)/include -Ikernels

$(BUILD)/kernels/%.cu.o: kernels/%.cu Makefile
	@mkdir -p $(@D)
	$(call say,nvcc)$(NVCC) $(NVCC_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

# ---- Several processes ------------------------------------------------------------------------------------------------

# Where MPI (Open MPI's or MPICH's mpicc) or NCCL's header is found. NCCL itself is looked for when it is first needed.
MPICC ?= $(shell command -v mpicc 2>/dev/null)
NCCL := $(firstword $(wildcard $(CUDA)/include/nccl.h /usr/include/nccl.h /usr/local/include/nccl.h))
DISTRIBUTED_OBJECTS := $(patsubst %,$(BUILD)/%.o,$(sort $(wildcard src/distributed/*.c)))

ifneq ($(MPICC)$(and $(NVCC),$(NCCL)),)
all: $(BUILD)/fp8/distributed.so
LIBRARIES += $(BUILD)/fp8/distributed.so
endif

$(BUILD)/fp8/distributed.so: $(DISTRIBUTED_OBJECTS) $(BUILD)/fp8/core.so
	$(call say,link)$(CC) -o $@ $(DISTRIBUTED_OBJECTS) $(LINK_FLAGS) -Wl,-rpath,'$$ORIGIN' \
	  -L$(@D) -l:core.so $(if $(MPICC),$(shell $(MPICC) -show 2>/dev/null | tr ' ' '\n' | grep -E '^-(L|l|Wl)')) -lpthread -ldl

$(BUILD)/src/distributed/mpi.c.o: C_FLAGS += $(if $(MPICC),-DFP8_MPI $(shell $(MPICC) -show 2>/dev/null | tr ' ' '\n' | grep '^-I'))
$(BUILD)/src/distributed/nccl.c.o: C_FLAGS += $(if $(and $(NVCC),$(NCCL)),-DFP8_NCCL -I$(CUDA)/include -I$(dir $(NCCL)))

# ---- Running ----------------------------------------------------------------------------------------------------------

LUA = LUA_PATH='lua/?.lua;lua/?/init.lua;;' LUA_CPATH='$(BUILD)/?.so;;' $(WITH) luajit

# busted wherever luajit finds it, without its launcher script, which may name another interpreter.
RUN_SPECS = echo 'require "busted.runner" {standalone = false}' | $(LUA) - $(ARGS) $(SPEC)

demo: ## train three networks on Fashion-MNIST (ARGS='--device cuda'); installs what is missing first
	@.ci/setup demo
	@$(MAKE) --no-print-directory all
	@$(LUA) examples/fashion_mnist.lua $(ARGS)

test: ## run the specs (SPEC=spec/ops/softmax_spec.lua for one file); installs what is missing first
	@.ci/setup test
	@$(MAKE) --no-print-directory all
	@$(RUN_SPECS)

bench: all ## run the benchmarks (BENCH=examples/bench/linear.lua for one of them, ARGS=--help lists its options)
	@for file in $(BENCH); do printf '== %s\n' $$file; $(LUA) $$file $(ARGS) || exit; done

repl: all ## the prompt, which is the command fp8 once that is installed
	@$(LUA) -e 'os.exit(require "fp8.repl.command" {}, true)'

docs: all ## write the reference as HTML, to build/reference/html; installs LDoc first where it is missing
	@.ci/setup docs
	@rm -rf build/reference && mkdir -p build/reference/topics
	@$(LUA) -e 'require "fp8.help.reference" "build/reference"'
	@cd build/reference && ldoc --fatalwarnings .
	@sed -i 's|\.md</a></td>|</a></td>|' build/reference/html/index.html

pictures: all ## draw the pictures of the README again (needs gnuplot)
	@$(LUA) examples/pictures.lua

# ---- Checking ---------------------------------------------------------------------------------------------------------

lint: ## luacheck, clang-format and a build with -Werror
	@.ci/setup lint
	luacheck --quiet --no-color lua spec examples
	clang-format --dry-run -Werror $$(find src kernels spec -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
	@$(MAKE) --no-print-directory all BUILD=build/lint CUDA_ARCHS=$(lastword $(CUDA_ARCHS)) \
	  CFLAGS='$(CFLAGS) -Werror' NVCCFLAGS='$(NVCCFLAGS) -Xcompiler -Wall,-Wextra -Werror all-warnings'

# LuaJIT itself is not instrumented, so the sanitizers' runtime has to be in the process before it. The leak check crashes
# over what it learns from __tls_get_addr about OpenMP's threads, and a huge allocation has to fail as malloc's do.
memcheck: BUILD = build/memcheck
memcheck: WITH = LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) \
  ASAN_OPTIONS=intercept_tls_get_addr=0:allocator_may_return_null=1
memcheck: ## run the specs under the address, leak and undefined-behaviour sanitizers, on the CPU
	@.ci/setup test
	@$(MAKE) --no-print-directory all BUILD=$(BUILD) NVCC= \
	  CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined'
	@$(RUN_SPECS)

# With one OpenMP thread each: the sanitizer does not know how OpenMP's threads wait for one another.
threadcheck: BUILD = build/threadcheck
threadcheck: WITH = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
threadcheck: ## run four Lua states in threads under the thread sanitizer, on the CPU
	@.ci/setup test
	@$(MAKE) --no-print-directory all BUILD=$(BUILD) NVCC= CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=thread'
	@$(CC) -g -fsanitize=thread -o $(BUILD)/host spec/fixtures/host.c $(LUAJIT_CFLAGS) -rdynamic -lluajit-5.1 -lpthread
	@$(LUA:luajit=$(BUILD)/host) threads spec/fixtures/states.lua 4 $${FP8_STATES:-5} > $(BUILD)/results

sanitize: WITH = $(CUDA)/bin/compute-sanitizer --tool $(TOOL) --error-exitcode 9 $(if $(filter memcheck,$(TOOL)),--report-api-errors no)
sanitize: all ## run the specs under compute-sanitizer, on a GPU (TOOL=racecheck for another of its tools)
	@FP8_REQUIRE_CUDA=1; export FP8_REQUIRE_CUDA; $(RUN_SPECS)

# Clang's libFuzzer, with the sanitizers in all C code of fp8. What it learns stays in build/fuzz/corpus.
fuzz: BUILD = build/fuzz
fuzz: ## fuzz the readers of files and recipes (READER=idx TIME=600 for one of them, for 600 seconds); installs clang first
	@.ci/setup fuzz
	@$(MAKE) --no-print-directory $(BUILD)/fuzzer BUILD=$(BUILD) NVCC= CC=clang CXX=clang++ \
	  CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined \
	  -fno-sanitize=function,vptr -Wno-pass-failed"
	@for reader in $(READER); do $(LUA:luajit=)spec/fuzz/run $(BUILD) $$reader $(TIME) $(INPUT) || exit; done

$(BUILD)/fuzzer: spec/fuzz/fuzzer.c $(BUILD)/fp8/core.so
	$(call say,cc)$(CC) -std=gnu11 $(CFLAGS) -fsanitize=fuzzer -Wall -Wextra $(LUAJIT_CFLAGS) -o $@ $< $(LUAJIT_LIBS)

editor: all ## write what editors read: build/compile_commands.json, and build/annotations for the Lua language server
	@mkdir -p build
	@$(MAKE) --no-print-directory -nB V=1 all | sed -n 's|^\([^"]* -c -o [^ ]* \([^ ]*\)\)$$|{"directory": "$(CURDIR)", "file": "\2", "command": "\1"},|p' | \
	  sed '1 s/^/[/; $$ s/,$$/]/' > build/compile_commands.json
	@mkdir -p build/annotations
	@$(LUA) -e 'io.write(require "fp8.help.annotations"())' > build/annotations/fp8.lua

# ---- Installing -------------------------------------------------------------------------------------------------------

PLACES = DESTDIR='$(DESTDIR)' LUADIR='$(LUADIR)' LIBDIR='$(LIBDIR)' BINDIR='$(BINDIR)'

install: all ## install to PREFIX=/usr/local (honours DESTDIR)
	$(PLACES) .ci/install install $(LIBRARIES)

uninstall: ## remove what install installed
	$(PLACES) .ci/install uninstall

deb: all ## write a Debian package of what install installs, for the release of Debian that it is made on
	@.ci/deb '$(patsubst fp8-%.rockspec,%,$(wildcard fp8-*.rockspec))' $(LIBRARIES)

clean: ## remove everything that was built
	rm -rf build

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

.PHONY: all cuda demo test bench repl docs pictures lint memcheck threadcheck sanitize fuzz editor install uninstall deb clean help
.DEFAULT_GOAL := all

-include $(CORE_OBJECTS:.o=.d) $(CUDA_OBJECTS:.o=.d) $(DISTRIBUTED_OBJECTS:.o=.d)
