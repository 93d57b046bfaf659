#!/bin/sh
# run.sh BUILD - runs every test there is and adds them up: unit and integration programs (Check)
# and end-to-end scripts (TAP). Last line: "N passed, N failed, N skipped".
#
# A test that lacks what it needs (a data folder, a CPU feature) prints "SKIP: why" and passes over.
# FILTER=regex runs only the tests whose name matches.
set -u
build=$1
passed=0 failed=0 skipped=0
logs=$build/logs
mkdir -p "$logs"

# count LOG EXIT_CODE NAME - Check's summary line, or TAP's lines, become numbers.
count() {
    summary=$(grep -aE '^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+' "$1" | tail -1)
    if [ -n "$summary" ]; then
        checks=$(echo "$summary" | sed -E 's/.*Checks: ([0-9]+).*/\1/')
        failures=$(echo "$summary" | sed -E 's/.*Failures: ([0-9]+).*/\1/')
        errors=$(echo "$summary" | sed -E 's/.*Errors: ([0-9]+).*/\1/')
        bad=$((failures + errors))
        good=$((checks - bad))
    else
        good=$(grep -acE '^ok ' "$1") bad=$(grep -acE '^not ok ' "$1")
    fi
    skips=$(grep -acE '(^|: )SKIP: ' "$1")
    if [ "$2" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    [ "$good" -ge "$skips" ] && good=$((good - skips))
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + skips))
    if [ "$bad" -ne 0 ]; then
        echo "FAIL $3 (exit $2), log $1:"
        tail -40 "$1"
    elif [ "$good" -eq 0 ] && [ "$skips" -eq 0 ]; then
        echo "FAIL $3: ran no test, log $1"
        failed=$((failed + 1))
    else
        echo "  $3: $good passed${skips:+, $skips skipped}"
    fi
}

run() { # run NAME LIMIT_S COMMAND...
    name=$1 limit_s=$2
    shift 2
    echo "$name" | grep -qE "${FILTER:-.}" || return 0
    timeout -k 10 "$limit_s" "$@" >"$logs/$name.log" 2>&1 </dev/null
    count "$logs/$name.log" $? "$name"
}

for test in "$build"/tests/unit/test_* "$build"/tests/integration/test_*; do
    case $test in *.o | *.d | *.ok | *.log | *'*') continue ;; esac
    source=${test#"$build"/}.c
    [ -e "$source" ] || continue # a leftover of a test that is gone
    run "$(basename "$(dirname "$test")")-$(basename "$test")" 600 "$test"
done
for test in build/simt/test_*; do # kernels/cuda on the CPU; the same for every MODE
    case $test in *'*') continue ;; esac
    run "simt-$(basename "$test")" 300 "$test"
done
if command -v qemu-aarch64 >/dev/null 2>&1 && [ -e build/neon/test_kernels ]; then
    for test in build/neon/test_*; do # kernels and model as AArch64 code
        run "neon-$(basename "$test")" 600 qemu-aarch64 "$test"
    done
else
    echo "SKIP: backend neon is unverified: aarch64-linux-gnu-gcc or qemu-aarch64 is missing"
    skipped=$((skipped + 1))
fi
run cuda-compiled 60 sh tests/simt/compiled.sh "$build"
for test in tests/e2e/test_*.mjs; do
    [ -e "$test" ] || continue
    OPENLEDGER_BIN=$build/bin run "e2e-$(basename "$test" .mjs)" 900 node "$test"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
