#!/bin/sh
# slim.sh FOLDER yes|no: takes out of a virtual environment what a server does not use, and compiles its modules.
# With "yes" OpenVINO's plugins for GPUs and NPUs stay.
set -eu
site=$(echo "$1"/lib/python3*/site-packages)

# Tests of libraries, headers, static libraries, and stubs, which only type checkers read.
find "$site" -type f \( -path '*/tests/*' -o -path '*/tornado/test/*' \) -delete
find "$site" -type f \( -name '*.pyi' -o -name '*.a' -o -name '*.h' -o -name '*.hpp' \) -delete
rm -rf "$site"/openvino/include "$site"/openvino/cmake

# Of Amazon's services these are the ones that s3fs asks: for models, and for leave to read them.
find "$site/botocore/data" -mindepth 1 -maxdepth 1 -type d \
    ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} +

if [ "$2" != yes ]; then
    # cache.json holds kernels for GPUs.
    rm -f "$site"/openvino/libs/libopenvino_intel_[gn]pu_*.so* "$site"/openvino/libs/cache.json
fi
find "$site" -type d -empty -delete

# Valid whatever times a copy of the files has: the image may be read-only, so nothing is compiled later.
"$1/bin/python3" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$site"
# Of the programs only Python and the server's are wanted.
rm -rf "$1/include"
find "$1/bin" ! -type d ! -name 'python*' ! -name tornado-ovms ! -name ovms -delete
