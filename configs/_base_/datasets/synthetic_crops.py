# Single objects of the embedded benchmark in ImageNet's form, 64 x 96 pixels, made by
# tools/make_benchmark.py --crops. No flip and no crop: both would change classes (left, near).
data_root = "{{$MMPLUGINS_SYNTHETIC:data/synthetic}}/classification"
metainfo = dict(
    classes=(  # as folders are sorted
        "checked_triangle",
        "hexagon_above",
        "hexagon_below",
        "hexagon_far",
        "hexagon_left",
        "hexagon_near",
        "hexagon_right",
        "striped_disk",
    )
)

train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadImageFromFile"),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type="SeededSampler", shuffle=True),
    dataset=dict(
        type="CustomDataset",
        metainfo=metainfo,
        data_root=data_root,
        data_prefix=dict(img_path="train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CustomDataset",
        metainfo=metainfo,
        data_root=data_root,
        data_prefix=dict(img_path="val"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="Accuracy", topk=1)
test_evaluator = val_evaluator
