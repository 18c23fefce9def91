# The embedded benchmark in COCO form, made by tools/make_benchmark.py: 160 x 224 scenes.
# No flip: mirrored pictures belong to other classes (left and right).
data_root = "{{$MMPLUGINS_SYNTHETIC:data/synthetic}}/coco"
metainfo = dict(
    classes=(
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
    palette=[
        (255, 150, 40),
        (90, 235, 100),
        (70, 130, 255),
        (20, 50, 160),
        (255, 70, 80),
        (140, 5, 30),
        (255, 225, 50),
        (150, 110, 0),
        (215, 90, 255),
        (110, 0, 160),
        (90, 240, 240),
        (0, 120, 130),
    ],
)

train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    # tells the heads the scale; the size stays
    dict(type="Resize", scale_factor=1.0, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type="SeededSampler", shuffle=True),
    dataset=dict(
        type="CocoDataset",
        metainfo=metainfo,
        data_root=data_root,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        metainfo=metainfo,
        data_root=data_root,
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type="mmplugins.FamilyCocoMetric",
    ann_file=data_root + "/annotations/instances_val2017.json",
    metric=["bbox", "segm"],
)
test_evaluator = val_evaluator
