# Makefile - builds, tests and checks everything. Start with: make help
#
# One non-recursive Makefile, so make sees every dependency and -j is always right. Sources are
# found by folder: a new file, test or service needs no edit here. Outputs go to build/ only.

# MODE: release debug asan tsan cov. V=1 shows commands.
MODE ?= release
# asan builds with clang: its bounds check also covers an array at the end of a struct, gcc 12's
# does not. Everything else builds with gcc, so both compilers see every line before a merge.
ifneq ($(filter default undefined,$(origin CC)),)
CC := $(if $(filter asan,$(MODE)),clang,gcc)
endif
BUILD := build/$(MODE)
GEN := build/gen
PROTOC_C ?= protoc-c
FUZZ_S ?= 10

MAKEFLAGS += -rR
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all
Q := $(if $(V),,@)

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
  -Wold-style-definition -Wvla -Wundef -Wcast-qual -Wwrite-strings -Wformat=2 -Wnull-dereference \
  -Wdouble-promotion -Wimplicit-fallthrough -Wswitch-enum -Wpointer-arith -Wdate-time -Werror
# protobuf-c's INIT macros cast const away; clang, unlike gcc, blames the file that uses them.
WARN += $(if $(findstring clang,$(CC)),-Wno-cast-qual)
# The machine the compiler makes code for: x86_64 and aarch64 have kernels of their own, others run the scalar ones.
MACHINE := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
HARDEN_x86_64 := -fcf-protection
HARDEN_aarch64 := -mbranch-protection=standard
HARDEN := -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection $(HARDEN_$(MACHINE))
FLAGS_debug := -O1 $(HARDEN)
FLAGS_release := -O2 $(HARDEN)
FLAGS_asan := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FLAGS_tsan := -O1 -fsanitize=thread
FLAGS_cov := -O0 --coverage
$(if $(FLAGS_$(MODE)),,$(error unknown MODE '$(MODE)'))

# -ffp-contract=off: the CPU kernels are the numeric reference, the same on every machine.
# -ffile-prefix-map: no build path in the output, so two checkouts build the same bytes.
# H2O_USE_LIBUV=0: libh2o's own event loop; pkg-config omits the define.
CPPFLAGS := -D_GNU_SOURCE -DH2O_USE_LIBUV=0 -I. -isystem $(GEN) -isystem /usr/include/hiredis \
  $(CPPFLAGS_EXTRA)
CFLAGS := -std=gnu17 -g -fno-common -fPIE -ffp-contract=off -ffile-prefix-map=$(CURDIR)=. \
  $(FLAGS_$(MODE))
LDFLAGS := -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(FLAGS_$(MODE)) $(LDFLAGS_EXTRA)
LIBS := -lnats -lh2o-evloop -lnghttp2 -lhiredis -lprotobuf-c -lsodium -llmdb -ljansson -lpcre2-8 -lutf8proc \
  -ldivsufsort -lzstd -lcurl -lssl -lcrypto -lm -pthread
# CUDA is built where nvcc and its static runtime are found, unless CUDA= says no; not for sanitizers, whose
# code nvcc cannot make. The runtime finds the driver when it is called: programs start without.
NVCC ?= $(firstword $(wildcard $(shell command -v nvcc) /usr/local/cuda/bin/nvcc))
CUDA_HOME := $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CUDART := $(if $(NVCC),$(firstword $(wildcard $(addsuffix /libcudart_static.a,$(addprefix $(CUDA_HOME)/,lib64 lib \
  targets/$(shell uname -m)-linux/lib) /usr/local/cuda/lib64 /usr/lib/$(shell $(CC) -print-multiarch)))))
CUDA ?= $(if $(filter release debug,$(MODE)),$(if $(CUDART),$(NVCC)))
NVCC_FLAGS := -std=c++17 -O2 --fmad=false --ftz=false --prec-div=true --prec-sqrt=true \
  -gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90,code=sm_90 -D_GNU_SOURCE -I.
# No part of the C++ runtime: programs are linked as C.
NVCC_HOST := -fPIE,-Wall,-Wextra,-Werror,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics,-fstack-protector-strong
ifneq ($(CUDA),)
LIBS += $(CUDART) -ldl -lrt
CUDA_C := $(sort $(wildcard kernels/cuda/*.c))
CUDA_CU := $(sort $(wildcard kernels/cuda/*.cu))
CUDA_PTX := $(addprefix $(BUILD)/,$(CUDA_CU:.cu=.ptx) tests/simt/probe.ptx tests/simt/probe_fmad.ptx)
CUDA_AWARE := $(addprefix $(BUILD)/,kernels/select.o tests/harness/kernels_run.o)
$(CUDA_AWARE): EXTRA := -DOPENLEDGER_CUDA
$(CUDA_AWARE): Makefile
endif
LIBS_check := -lcheck -lsubunit -lrt

# Instructions beyond the machine's baseline. A file of another machine compiles to nothing.
FLAGS_avx2 := -mavx2 -mfma -mf16c
FLAGS_avx512 := $(FLAGS_avx2) -mavx512f -mavx512vl -mavx512dq -mavx512bw
cpu_objects = $(addsuffix /kernels/cpu/$(1).o,$(BUILD) build/fuzz build/simt)
ifeq ($(MACHINE),x86_64)
$(call cpu_objects,avx2): EXTRA := $(FLAGS_avx2)
$(call cpu_objects,avx512): EXTRA := $(FLAGS_avx512)
$(call cpu_objects,vnni): EXTRA := $(FLAGS_avx512) -mavx512vnni
$(call cpu_objects,amx): EXTRA := $(FLAGS_avx512) -mamx-tile -mamx-int8
else ifeq ($(MACHINE),aarch64)
$(call cpu_objects,dotprod): EXTRA := -march=armv8.2-a+dotprod
endif

PROTO := $(sort $(wildcard proto/openledger/v1/*.proto))
PROTO_C := $(PROTO:proto/%.proto=$(GEN)/%.pb-c.c)
PROTO_H := $(PROTO_C:.c=.h)
SHARED := $(sort $(wildcard shared/*/*.c))
KERNELS := $(sort $(wildcard kernels/*.c kernels/cpu/*.c))
SERVICES := $(notdir $(patsubst %/,%,$(sort $(dir $(wildcard services/*/main.c)))))
UNIT := $(sort $(wildcard tests/unit/test_*.c))
INTEGRATION := $(sort $(wildcard tests/integration/test_*.c))
FUZZ := $(sort $(wildcard tests/fuzz/fuzz_*.c))
BENCH := $(sort $(wildcard tests/bench/bench_*.c))
SIM := $(filter-out %/main.c,$(sort $(wildcard tests/sim/*.c)))
# The simulator's gateways and attribution are the services' pure parts.
HARNESS := $(sort $(wildcard tests/harness/*.c)) $(SIM) services/lora-gateway/gateway.c services/lora-gateway/unsettled.c services/attribution/attribution.c
C_FILES := $(sort $(wildcard shared/*/*.c kernels/*.c kernels/*/*.c services/*/*.c tests/*/*.c))
H_FILES := $(sort $(wildcard shared/*/*.h kernels/*.h kernels/*/*.h services/*/*.h tests/*/*.h))
CXX_FILES := $(sort $(wildcard kernels/cuda/*.cu tests/bench/*.cu tests/simt/*.cc tests/simt/*.cu) \
  $(addprefix kernels/cuda/,attention.h device.h ptx.h types.h) $(addprefix tests/simt/,cuda_runtime.h simt_ptx.h))
obj = $(patsubst %,$(BUILD)/%.o,$(basename $(1)))
gen_obj = $(patsubst $(GEN)/%.c,$(BUILD)/gen/%.o,$(1))

BINS := $(SERVICES:%=$(BUILD)/bin/%)
TESTS := $(UNIT:%.c=$(BUILD)/%)
INTEGRATION_TESTS := $(INTEGRATION:%.c=$(BUILD)/%)

all: bins tests ## build everything for MODE (default release)
bins: $(BINS) ## build the services and the command line into build/MODE/bin
tests: $(TESTS) $(INTEGRATION_TESTS) simt-tests neon-tests $(CUDA_PTX) $(if $(CUDA),$(BUILD)/tests/bench/bench_gpu)
	$(if $(CUDA),,@echo "  CUDA is not built (nvcc or its libcudart_static.a not found, CUDA= or a sanitizer): kernels/cuda is only simulated")

deps: ## install what is missing: Debian and npm packages (sudo when not root)
	$(Q)sh deploy/deps.sh
test: deps ## install what is missing, build, run all tests
	$(Q)$(MAKE) --no-print-directory all
	$(Q)sh tests/harness/run.sh $(BUILD)
demo: deps ## the whole loop on real text; KEEP=1 leaves the stack up
	$(Q)$(MAKE) --no-print-directory bins
	$(Q)$(BUILD)/bin/openledger demo $(if $(KEEP),--keep)
# The three commands that made deploy/models/openledger-3m, from installed texts only (1 to 2 hours on 2 cores;
# goes on where it was stopped), and whether the model is that one.
base-model: deps bins ## make the base model anew into build/base/model
	$(Q)$(BUILD)/bin/openledger corpus base --out build/base/corpus
	$(Q)$(BUILD)/bin/openledger tokenizer train --corpus build/base/corpus/train.jsonl --out build/base/tokenizer
	$(Q)$(BUILD)/bin/openledger pretrain --corpus build/base/corpus/train.jsonl \
	  --heldout build/base/corpus/heldout.jsonl --tokenizer build/base/tokenizer --out build/base/model \
	  --steps 3200 --batch 16 --seed 20261123 --judge-every 400 --save-every 200 \
	  --expect deploy/models/openledger-3m/manifest.json \
	  $(if $(wildcard build/base/model/checkpoint*),--resume)
unit: $(TESTS:=.ok) ## run unit tests; a passed test reruns only when its binary changes
sanitize: ## unit tests under asan+ubsan (clang) and tsan (gcc)
	$(Q)$(MAKE) --no-print-directory MODE=asan unit
	$(Q)$(MAKE) --no-print-directory MODE=tsan unit
check: format-check lint headers symbols ## everything that must be green before a merge
	$(Q)$(MAKE) --no-print-directory sanitize fuzz
	$(Q)$(MAKE) --no-print-directory test

# -MD, not -MMD: generated headers come by -isystem, and a changed vocabulary must rebuild its users.
# Generated code is not ours to lint: -isystem above and -w here keep its warnings quiet.
$(GEN)/%.pb-c.c $(GEN)/%.pb-c.h: proto/%.proto
	@mkdir -p $(GEN)
	$(Q)$(PROTOC_C) -Iproto --c_out=$(GEN) $<
$(BUILD)/gen/%.o: $(GEN)/%.c | $(PROTO_H)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -w -c $< -o $@
$(BUILD)/%.o: %.c | $(PROTO_H)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(EXTRA) $(WARN) -MD -MP -c $< -o $@
# What ptxas says about registers and spills stays beside the object, for tests/simt/compiled.sh.
define nvcc_rules
$(BUILD)/$(1)/%.o: $(1)/%.cu
	@mkdir -p $$(@D)
	$(if $(V),,@echo "  NVCC $$<")
	$(Q)$(CUDA) $(NVCC_FLAGS) -Xcompiler $(NVCC_HOST) -Werror all-warnings -Xptxas -v -MD -MP -c $$< -o $$@ \
	  2>$$(@:.o=.ptxas) || { cat $$(@:.o=.ptxas); false; }
endef
$(foreach folder,kernels/cuda tests/bench,$(eval $(call nvcc_rules,$(folder))))
$(BUILD)/%.ptx: %.cu
	@mkdir -p $(@D)
	$(Q)$(CUDA) $(filter-out -gencode arch=%,$(NVCC_FLAGS)) -arch=compute_80 -ptx $< -o $@
$(BUILD)/tests/simt/probe_fmad.ptx: tests/simt/probe.cu
	@mkdir -p $(@D)
	$(Q)$(CUDA) -arch=compute_80 -ptx $< -o $@
# The web page is built into the gateway.
$(BUILD)/services/lora-gateway/page.o: deploy/web/index.html
LIB := $(BUILD)/libopenledger.a
$(LIB): $(call obj,$(SHARED) $(KERNELS) $(CUDA_C) $(CUDA_CU)) $(call gen_obj,$(PROTO_C))
$(BUILD)/libharness.a: $(call obj,$(HARNESS))
$(BUILD)/%.a:
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcsD $@ $^

define service_rules
$(BUILD)/bin/$(1): $(call obj,$(sort $(wildcard services/$(1)/*.c))) $(LIB)
	@mkdir -p $$(@D)
	$(Q)$$(CC) $$(LDFLAGS) $$^ $$(LIBS) -o $$@
endef
$(foreach s,$(SERVICES),$(eval $(call service_rules,$(s))))

# A unit test of services/NAME/NAME.c (the domain, without sockets) is tests/unit/test_NAME.c: it
# links every file of that service but main.c.
# A second test of the same service is test_NAME_TOPIC.c; a NAME has one word or two.
name_words = $(subst -, ,$(1))
service_folder = $(firstword $(wildcard services/$(1) services/$(firstword $(name_words))-$(word 2,$(name_words)) \
  services/$(firstword $(name_words))))
service_of = $(filter-out %/main.c,$(sort $(wildcard $(addsuffix /*.c,$(call service_folder,$(1))))))
define test_rules
$(BUILD)/$(1:%.c=%): $(BUILD)/$(1:%.c=%.o) $(call obj,$(call service_of,$(subst _,-,$(patsubst test_%.c,%,$(notdir $(1)))))) \
  $(BUILD)/libharness.a $(LIB)
	@mkdir -p $$(@D)
	$(Q)$$(CC) $$(LDFLAGS) $$^ $$(LIBS_check) $$(LIBS) -o $$@
endef
$(foreach t,$(UNIT) $(INTEGRATION),$(eval $(call test_rules,$(t))))
# Sanitizers slow some tests more than tenfold.
$(BUILD)/tests/unit/%.ok: $(BUILD)/tests/unit/%
	$(Q)CK_TIMEOUT_MULTIPLIER=$(if $(filter asan tsan,$(MODE)),20,1) $< > $<.log 2>&1 && tail -1 $<.log | sed 's/^/  /' || { cat $<.log; false; }
	@touch $@

# The simulator: settlement's own files, but for its main, on simulated disks, bus and clocks.
$(BUILD)/tests/sim/sim: $(BUILD)/tests/sim/main.o $(call obj,$(call service_of,settlement)) $(BUILD)/libharness.a $(LIB)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) -o $@
SEEDS ?= 10000
sim: $(BUILD)/tests/sim/sim ## SEEDS (10,000) histories of the ledger's replicas under every fault
	$(Q)$< --from 1 --seeds $$(($(SEEDS) / 2)) & first=$$!; $< --from $$(($(SEEDS) / 2 + 1)) --seeds $$(($(SEEDS) / 2)); \
	  second=$$?; wait $$first && exit $$second

SOAK_MINUTES ?= 30
soak: deps ## SOAK_MINUTES (30) of a whole suite under load while its programs die and its streams are deleted
	$(Q)$(MAKE) --no-print-directory bins
	$(Q)OPENLEDGER_BIN=$(BUILD)/bin SOAK_MINUTES=$(SOAK_MINUTES) node tests/e2e/soak.mjs

# kernels/cuda on the CPU: the same .cu files, compiled as C++ for the runner in tests/simt, always under
# ASan, with the tests that hold every backend to the scalar bits. 
SIMT := build/simt
SIMT_TESTS := $(addprefix $(SIMT)/,test_device test_bench_gpu test_kernels test_kernels_products)
SIMT_FLAGS := -D_GNU_SOURCE -DOPENLEDGER_CUDA -DOPENLEDGER_SIMT -Itests/simt -I. -g -O1 -ffp-contract=off \
  -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -MD -MP
SIMT_LIB := $(patsubst %,$(SIMT)/%.o,$(basename $(sort $(wildcard shared/base/*.c kernels/*.c kernels/c*/*.c kernels/cuda/*.cu) \
  tests/harness/kernels_run.c tests/simt/simt.cc)))
simt-tests: $(SIMT_TESTS)
simt: simt-tests ## run kernels/cuda on the CPU against the scalar bits
	$(Q)for test in $(SIMT_TESTS); do $$test || exit; done
$(SIMT)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)gcc -std=gnu17 $(SIMT_FLAGS) $(EXTRA) -c $< -o $@
$(SIMT)/%.o: %.cc
	@mkdir -p $(@D)
	$(Q)g++ -std=gnu++17 $(SIMT_FLAGS) -Wall -Wextra -Werror -c $< -o $@
$(SIMT)/%.o: %.cu
	@mkdir -p $(@D)
	$(Q)g++ -std=gnu++17 $(SIMT_FLAGS) -Wall -Wextra -Werror -Wno-unknown-pragmas -x c++ -c $< -o $@
$(SIMT)/test_device: $(patsubst %.c,$(SIMT)/%.o,$(sort tests/simt/test_device.c $(wildcard tests/simt/device_*.c)))
$(SIMT)/test_bench_gpu: $(patsubst %,$(SIMT)/%.o,tests/simt/test_bench_gpu $(basename $(wildcard tests/bench/gpu_*.c tests/bench/gpu_*.cu)) shared/json/json shared/json/write)
$(filter %_kernels %_products,$(SIMT_TESTS)): $(SIMT)/%: $(SIMT)/tests/unit/%.o
$(SIMT_TESTS): $(SIMT_LIB)
	$(Q)g++ $(SIMT_FLAGS) $^ $(LIBS_check) -ljansson -lm -pthread -o $@

# exp, log, sin, cos, bf16 and f16 over all 2^32 floats. Not in `make test`, which takes every 1499th.
PROCESSES ?= 2
$(BUILD)/tests/exhaustive/exhaustive: $(BUILD)/tests/exhaustive/main.o $(BUILD)/libharness.a $(LIB)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS_check) $(LIBS) -o $@
exhaustive: $(BUILD)/tests/exhaustive/exhaustive ## elementary functions over all floats (PROCESSES, minutes)
	$(Q)$< $(PROCESSES)

# Kernels and model for AArch64, statically, with stand-ins for what Debian has only for this machine: tests/cross.
# qemu-user runs them; where compiler or emulator is missing, tests/harness/run.sh says so.
NEON := build/neon
NEON_CC := $(shell command -v aarch64-linux-gnu-gcc)
NEON_TESTS := $(addprefix $(NEON)/,test_kernels test_kernels_products test_kernels_math test_digest)
NEON_FLAGS := -std=gnu17 -D_GNU_SOURCE -Itests/cross -I. -idirafter /usr/include -g -O2 -ffp-contract=off \
  -ffunction-sections -Wall -Wextra -Werror -MD -MP
NEON_LIB := $(patsubst %.c,$(NEON)/%.o,$(sort $(wildcard shared/base/*.c shared/lm/*.c kernels/*.c kernels/cpu/*.c) \
  shared/json/write.c shared/crypto/sha256.c shared/platform/pool.c shared/platform/thread.c tests/harness/kernels_run.c \
  tests/harness/lm_digest.c tests/harness/float_sweep.c))
neon-tests: $(if $(NEON_CC),$(NEON_TESTS))
neon: neon-tests ## run kernels and model as AArch64 code under qemu-user: the same bits
	$(Q)for test in $(NEON_TESTS); do qemu-aarch64 $$test || exit; done
# SDOT is asked for at run time; qemu-user's CPU has it.
$(NEON)/kernels/cpu/dotprod.o: EXTRA := -march=armv8.2-a+dotprod
$(NEON)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(NEON_CC) $(NEON_FLAGS) $(EXTRA) -c $< -o $@
$(NEON)/lib.a: $(NEON_LIB)
	$(Q)rm -f $@ && aarch64-linux-gnu-ar rcsD $@ $^
$(NEON)/test_digest: $(NEON)/tests/cross/test_digest.o
$(filter-out %/test_digest,$(NEON_TESTS)): $(NEON)/test_%: $(NEON)/tests/unit/test_%.o
$(NEON_TESTS): $(NEON)/lib.a
	$(Q)$(NEON_CC) -static -Wl,--gc-sections $(filter %.o,$^) $(NEON)/lib.a -lm -pthread -o $@

# The same tests on a real device.
GPU_TESTS := $(if $(CUDA),$(addprefix $(BUILD)/tests/,simt/test_device unit/test_kernels unit/test_kernels_products))
$(BUILD)/tests/simt/test_device: $(call obj,$(sort tests/simt/test_device.c $(wildcard tests/simt/device_*.c))) $(BUILD)/libharness.a $(LIB)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS_check) $(LIBS) -o $@
test-gpu: $(GPU_TESTS) ## compare kernels/cuda on a GPU with the scalar bits
ifeq ($(CUDA),)
	@echo "SKIP: built without CUDA (nvcc or its libcudart_static.a not found, CUDA= or a sanitizer)"
else
	$(Q)$(BUILD)/tests/simt/test_device >$(BUILD)/tests/simt/log 2>&1; result=$$?; cat $(BUILD)/tests/simt/log; \
	  [ $$result -eq 0 ] || exit; grep -q '^SKIP' $(BUILD)/tests/simt/log && exit; \
	  for test in $(wordlist 2,3,$(GPU_TESTS)); do $$test || exit; done
endif

bench-gpu: $(if $(CUDA),$(BUILD)/tests/bench/bench_gpu) ## how much of a GPU kernels/cuda uses, results in build/bench/gpu.json
	$(if $(CUDA),$(Q)$<,@echo "SKIP: built without CUDA (nvcc or its libcudart_static.a not found, CUDA= or a sanitizer)")
bench-%: $(BUILD)/tests/bench/bench_% ## run one benchmark, results in build/bench/NAME.json
	@mkdir -p build/bench
	$(Q)$<
# A bench may have parts: bench_NAME.c is linked with NAME_*.c beside it, and with the sources in OF_bench_NAME.
OF_bench_gpu := $(wildcard tests/bench/gpu_*.cu)
OF_bench_ledger := $(call service_of,settlement) services/openledger/verify_ledger.c services/openledger/verify_objects.c
define bench_rules
$(BUILD)/$(1:%.c=%): $(call obj,$(1) $(wildcard $(subst /bench_,/,$(1:%.c=%))_*.c) $(OF_$(notdir $(1:%.c=%)))) $(BUILD)/libharness.a $(LIB)
	$(Q)$$(CC) $$(LDFLAGS) $$^ $$(LIBS_$(notdir $(1:%.c=%))) $$(LIBS) -o $$@
endef
$(foreach b,$(BENCH),$(eval $(call bench_rules,$(b))))
LIBS_bench_engine := -lopenblas
LIBS_bench_gemm := -lopenblas
bench-deps: ## install the peers that the benchmarks compare with
	$(Q)sh deploy/deps.sh bench

# The fuzzers get their own build of the library, instrumented for coverage.
FUZZ_FLAGS := -std=gnu17 -g -O1 -ffp-contract=off -fno-sanitize-recover=all
FUZZ_LIB := build/fuzz/libopenledger.a
FUZZ_WORLD := tests/harness/edits.c $(wildcard tests/harness/ledger_world*.c)
build/fuzz/gen/%.o: $(GEN)/%.c | $(PROTO_H)
	@mkdir -p $(@D)
	$(Q)clang $(CPPFLAGS) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined -w -c $< -o $@
build/fuzz/%.o: %.c | $(PROTO_H)
	@mkdir -p $(@D)
	$(Q)clang $(CPPFLAGS) $(FUZZ_FLAGS) $(EXTRA) -fsanitize=fuzzer-no-link,address,undefined -MD -MP \
	  -c $< -o $@
$(FUZZ_LIB): $(patsubst %.c,build/fuzz/%.o,$(SHARED) $(KERNELS) $(FUZZ_WORLD)) $(PROTO_C:$(GEN)/%.c=build/fuzz/gen/%.o)
	$(Q)rm -f $@ && ar rcsD $@ $^
fuzz: $(FUZZ:tests/fuzz/%.c=fuzz-run-%) ## fuzz every parser FUZZ_S seconds each (clang)
fuzz-run-%: build/fuzz/bin/%
	@mkdir -p build/corpus/$*
	$(Q)$< -max_total_time=$(FUZZ_S) -artifact_prefix=build/corpus/ build/corpus/$* >$<.log 2>&1 \
	  && echo "  OK $*: $(FUZZ_S) s" || { tail -30 $<.log; false; }
# A target may need a service's own files: OF_fuzz_NAME.
OF_fuzz_receipt_path := $(wildcard services/openledger/verify_*.c) services/openledger/cli.c services/openledger/output.c
define fuzz_rules
build/fuzz/bin/$(1): $(patsubst %.c,build/fuzz/%.o,tests/fuzz/$(1).c $(OF_$(1))) $(FUZZ_LIB)
	@mkdir -p $$(@D)
	$(Q)clang -fsanitize=fuzzer,address,undefined $$^ $(LIBS) -o $$@
endef
$(foreach f,$(FUZZ:tests/fuzz/%.c=%),$(eval $(call fuzz_rules,$(f))))

mutants: ## plant known bugs in a copy; every one must fail its test
	$(Q)for file in $(sort $(wildcard tests/unit/*.mutants tests/simt/*.mutants tests/sim/*.mutants)); do sh tests/harness/mutants.sh $$file || exit; done

format: ; $(Q)clang-format -i $(C_FILES) $(H_FILES) $(CXX_FILES) ## reformat in place
format-check: ; $(Q)clang-format --dry-run --Werror $(C_FILES) $(H_FILES) $(CXX_FILES) ## fail on unformatted code
lint: $(PROTO_H) ## clang-tidy, cppcheck, layer and text rules
	$(Q)sh tests/lint/layers.sh && sh tests/lint/mutants.sh && sh tests/lint/text.sh $(sort $(C_FILES) $(H_FILES) $(CXX_FILES))
	$(Q)cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,performance \
	  --suppress=missingIncludeSystem -j2 -I. $(C_FILES)
	$(Q)echo $(C_FILES) | xargs -n 4 -P 2 sh -c 'clang-tidy --quiet "$$@" -- -std=gnu17 $(CPPFLAGS) 2>/dev/null' lint
# But for the instruction sets' parts of vector.h, which each backend compiles with its own flags.
headers: $(patsubst %,header-check/%,$(filter-out $(CXX_FILES) kernels/cpu/vector_%.h,$(H_FILES))) ## every header compiles on its own
header-check/%: | $(PROTO_H) ; $(Q)echo '#include "$*"' | $(CC) $(CPPFLAGS) -std=gnu17 $(WARN) -fsyntax-only -xc -

# Looks at object files, not at text: comments cannot fool it and macros cannot hide from it.
# shared/platform is the one room that may ask the system for time, randomness and settings.
BANNED := strcpy strcat sprintf vsprintf strtok atoi atol alloca rand random time gettimeofday \
  clock_gettime sleep usleep getenv system popen gmtime localtime mktemp
symbols: $(call obj,$(filter-out shared/platform/%,$(SHARED)) $(KERNELS) $(wildcard services/*/*.c)) ## banned calls
	$(Q)! nm -Au $^ | grep -wE ' U (__)?($(subst $() ,|,$(strip $(BANNED))))(_chk)?'

clean: ; rm -rf build ## remove every output
help: ; @grep -hE '^[a-z%-]+:.*##' Makefile | sed -E 's/:.*##/\t/' | expand -t 14 ## this list
.PHONY: all bins tests bench-gpu test-gpu sim soak simt simt-tests neon neon-tests exhaustive deps bench-deps test demo base-model unit sanitize check fuzz mutants format format-check lint headers \
  symbols clean help
-include $(shell find $(BUILD) build/fuzz $(SIMT) $(NEON) -name '*.d' 2>/dev/null)
