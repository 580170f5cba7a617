#!/usr/bin/env bash
# PASCAL VOC 2012 from boxes, by labels of the CAMs inside them, or other data by CFG: `spml run box`. Settings: spml_run
# in bashscripts/setup.sh. With CAM_DIR the config's list names the labels; `spml prepare cam-labels` makes such labels.
#   DATAROOT=folder GPUS=4 bash bashscripts/voc12/train_spml_box.sh [key=value ..]
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
# shellcheck source=bashscripts/setup.sh
source bashscripts/setup.sh
if [ -z "${CFG:-}" ]; then
  INSTANCE_DIR=${INSTANCE_DIR:-${DATAROOT:-}/VOC2012/hed} BOXES=${BOXES:-${DATAROOT:-}/VOC2012/Annotations}
fi
spml_run box configs/voc12/box.yaml "$@"
