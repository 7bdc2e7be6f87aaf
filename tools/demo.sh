#!/bin/sh
# The main job on real input: film -> shards -> pretraining -> retrieval numbers and pictures.
# Every step is a `gdt` command, printed before it runs; start here to run it on videos of your own.
set -eu

out=${DEMO_DIR:-demo}
started=$(date +%s)

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

rm -rf "$out/shards" "$out/run" "$out/retrieval" "$out/pictures"
mkdir -p "$out/pictures"

status=0
run gdt samples film --out "$out/film" || status=$?
if [ "$status" -eq 0 ]; then
    # the story, without titles and credits; of each 40 s: 28 s train, 3 s gap, 6 s val, 3 s gap
    run gdt shards build "$out/film/story.csv" --out "$out/shards" --clip-seconds 28 \
        --holdout-clip-seconds 2 --holdout-every 40 --holdout 6 --gap-seconds 3 --workers 2
elif [ "$status" -ne 3 ]; then
    exit "$status"
else # 3: the film cannot be had here
    printf '\nThe film cannot be fetched here: the demo runs on the synthetic corpus instead.\n'
    run gdt samples synthetic --out "$out/synthetic"
    for split in train val; do
        run gdt shards build "$out/synthetic/$split" --out "$out/shards/$split" \
            --labels "$out/synthetic/labels.csv" --clip-seconds 4 --size 96x96 --workers 2
    done
fi

run gdt shards inspect "$out/shards/val" --out "$out/pictures/segments.png"
run gdt plan show demo --out "$out/pictures/contrast_and_weight.png"
run gdt pretrain demo --set data.shards="$out/shards/train" --out "$out/run"
run gdt evaluate retrieval --run "$out/run" --shards "$out/shards/val" --out "$out/retrieval"

cat <<EOF

Done in $(($(date +%s) - started)) s. Pictures to open:
  $out/pictures/segments.png             one-second segments: frames over their log-mel
  $out/pictures/contrast_and_weight.png  c and w of the plan
  $out/run/pictures/loss.png             the loss curve
  $out/retrieval/index.html              what the model finds: queries and their top hits
EOF
