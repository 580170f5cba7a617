#!/usr/bin/env bash
# PASCAL VOC 2012 from image tags, or other data by CFG. Settings: bashscripts/pipeline.sh
#   DATAROOT=folder GPUS=4 bash bashscripts/voc12/train_spml_tag.sh
set -euo pipefail
# shellcheck source=bashscripts/pipeline.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../pipeline.sh"

CAM_KIND=tag
RELEASED=(--scales "0.5,0.75,1,1.25,1.5" --flip --crf)
[ -n "${CFG:-}" ] || INSTANCE_DIR=${INSTANCE_DIR:-${DATAROOT:-}/VOC2012/hed}

# retrieval_labels <round> <labels of the memory>: pseudo labels by retrieval from a memory of other pseudo labels
retrieval_labels() {
  local MEMORY_VIEWS=(--scales "0.5,1,1.5")
  memory "$SNAPSHOTS/memory_$1" "$SNAPSHOTS/$2/list.txt"
  pseudo_label "$SNAPSHOTS/$1" "$SNAPSHOTS/stage1" --source retrieval --semantic_memory_dir "$SNAPSHOTS/memory_$1"
}

# CAMs that walk under the embedding name the memory's prototypes, these the training images.
stage_pseudo() {
  pseudo_label "$SNAPSHOTS/pseudo_cam" "$SNAPSHOTS/stage1" --source cam --cam_dir "${CAM_DIR:-$SNAPSHOTS/cams/cam}"
  quality --labels "CAM + walk=$SNAPSHOTS/pseudo_cam/semantic_gray"
  retrieval_labels pseudo pseudo_cam
  quality --labels "round 1=$SNAPSHOTS/pseudo/semantic_gray"
}

stage_classifier() { train_classifier "$SNAPSHOTS/stage2_round1" "$SNAPSHOTS/pseudo/list.txt"; }

# A second round: the classifier's labels, spread by one step, take the place of the CAMs'.
stage_pseudo2() {
  pseudo_label "$SNAPSHOTS/pseudo_softmax" "$SNAPSHOTS/stage2_round1" --source softmax --walk_steps 1
  quality --labels "classifier of round 1=$SNAPSHOTS/pseudo_softmax/semantic_gray"
  retrieval_labels pseudo2 pseudo_softmax
  quality --labels "round 2=$SNAPSHOTS/pseudo2/semantic_gray"
}

stage_classifier2() { train_classifier "$SNAPSHOTS/stage2" "$SNAPSHOTS/pseudo2/list.txt"; }

pipeline configs/voc12/tag.yaml 12,12 "train retrieval pseudo classifier pseudo2 classifier2 evaluate" "$@"
