#!/usr/bin/env bash
# PASCAL VOC 2012 from image tags, or other data by CFG: `spml run tag`. Settings: spml_run in bashscripts/setup.sh
#   DATAROOT=folder GPUS=4 bash bashscripts/voc12/train_spml_tag.sh [key=value ..]
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
# shellcheck source=bashscripts/setup.sh
source bashscripts/setup.sh
if [ -z "${CFG:-}" ]; then INSTANCE_DIR=${INSTANCE_DIR:-${DATAROOT:-}/VOC2012/hed}; fi
spml_run tag configs/voc12/tag.yaml "$@"
