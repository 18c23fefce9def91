# The embedded benchmark in ADE20K form, made by tools/make_benchmark.py: 160 x 224 scenes, 0 = no
# class. No flip: mirrored pictures belong to other classes (left and right).
data_root = "{{$MMPLUGINS_SYNTHETIC:data/synthetic}}/ade"
metainfo = dict(
    classes=(
        "clutter",
        "striped_disk",
        "checked_triangle",
        "hexagon_above",
        "hexagon_below",
        "hexagon_left",
        "hexagon_right",
        "hexagon_near",
        "hexagon_far",
        "star_left",
        "star_right",
        "cross_in_pair",
        "cross_in_array",
    ),
    # by which FamilyIoUMetric splits the score
    families=(
        "appearance",
        "appearance",
        "appearance",
        "arrangement",
        "arrangement",
        "arrangement",
        "arrangement",
        "arrangement",
        "arrangement",
        "location",
        "location",
        "repetition",
        "repetition",
    ),
    palette=[
        [90, 90, 90],
        [255, 150, 40],
        [90, 235, 100],
        [70, 130, 255],
        [20, 50, 160],
        [255, 70, 80],
        [140, 5, 30],
        [255, 225, 50],
        [150, 110, 0],
        [215, 90, 255],
        [110, 0, 160],
        [90, 240, 240],
        [0, 120, 130],
    ],
)

train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type="SeededInfiniteSampler", shuffle=True),
    dataset=dict(
        type="BaseSegDataset",
        metainfo=metainfo,
        reduce_zero_label=True,
        data_root=data_root,
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="BaseSegDataset",
        metainfo=metainfo,
        reduce_zero_label=True,
        data_root=data_root,
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="mmplugins.FamilyIoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
