#!/bin/sh
# compiled.sh BUILD - what nvcc made of kernels/cuda: nothing spilled, nothing contracted or estimated.
# Reads what the build left in BUILD; prints TAP, or SKIP where CUDA was not built.
set -u
build=$1
failed=0
number=0

report() { # report NAME COMMAND... - the command succeeds when all is well
    name=$1
    shift
    number=$((number + 1))
    if "$@"; then
        echo "ok $number - $name"
    else
        echo "not ok $number - $name"
        failed=1
    fi
}

# body KERNEL FILE - the arithmetic of one probe kernel.
body() { sed -n "/entry $1(/,/^}/p" "$2" | grep -oE '(fma|mad|mul|add|div|rcp|sqrt)\.[a-z.]*f32' | tr '\n' ' '; }

probe_is() { # probe_is KERNEL "OPERATIONS " - exactly these, in this order
    found=$(body "$1" "$build/tests/simt/probe.ptx")
    [ "$found" = "$2" ] || { echo "# $1: $found" && false; }
}

no_spills() {
    kernels=$(cat "$build"/kernels/cuda/*.ptxas | grep -c 'Compiling entry function')
    clean=$(cat "$build"/kernels/cuda/*.ptxas | grep -c ' 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads')
    echo "# $kernels kernels, most registers: $(cat "$build"/kernels/cuda/*.ptxas |
        sed -nE 's/.*Used ([0-9]+) registers.*/\1/p' | sort -n | tail -1)"
    [ "$kernels" -gt 0 ] && [ "$kernels" -eq "$clean" ]
}

# An operation without .rn may be contracted by ptxas; the others estimate or flush.
plain_rounding() {
    ! grep -nE '(mul|add|sub|mad)\.f(32|64)|\.ftz|\.approx|div\.full|\.r[zmp]\.f32' "$build"/kernels/cuda/*.ptx
}

fused_only_where_written() { # the check above can fail: with contraction on, the probe has an fma
    [ "$(body probe_mul_add "$build/tests/simt/probe_fmad.ptx")" = "fma.rn.f32 " ]
}

if [ ! -e "$build/tests/simt/probe.ptx" ]; then
    echo "SKIP: built without CUDA (nvcc or its libcudart_static.a not found, CUDA= or a sanitizer)"
    exit 0
fi
report 'no kernel spills registers' no_spills
report 'multiply and add stay two operations' probe_is probe_mul_add 'mul.rn.f32 add.rn.f32 '
report 'fmaf is one operation' probe_is probe_fmaf 'fma.rn.f32 '
report 'division is correctly rounded' probe_is probe_divide 'div.rn.f32 '
report 'square root and reciprocal are correctly rounded' probe_is probe_root 'sqrt.rn.f32 rcp.rn.f32 '
report 'no kernel contracts, flushes or estimates' plain_rounding
report 'the probe notices contraction' fused_only_where_written
exit $failed
