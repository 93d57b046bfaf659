#!/bin/sh
# mutants.sh - every planted bug of every .mutants file still changes its source: code moves on, and an edit that
# no longer finds its line would be noticed only by the next `make mutants`, which takes hours.
set -eu
stale=0
for file in tests/unit/*.mutants tests/simt/*.mutants tests/sim/*.mutants; do
    source=
    while read -r edit; do
        case $edit in
        shared/* | services/* | kernels/* | tests/*) source=$edit ;;
        *)
            if sed "$edit" "$source" | cmp -s - "$source"; then
                echo "$file: no change in $source: $edit"
                stale=1
            fi
            ;;
        esac
    done <"$file"
done
exit $stale
