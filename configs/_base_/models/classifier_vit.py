# A plain ViT, the mean of its last map, one linear layer. The final norm belongs to the backbone.
model = dict(
    type="ImageClassifier",
    data_preprocessor=dict(
        type="ClsDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
        num_classes=1000,
    ),
    backbone=dict(
        type="mmplugins.ViT",
        arch="small",
        img_size=224,
        patch_size=16,
        out_indices=(11,),
        drop_path_rate=0.1,
        final_norm=True,
        position_encodings=[],
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        in_channels=384,
        init_cfg=dict(type="TruncNormal", layer="Linear", std=0.02, bias=0.0),
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
    # Mixes whole batches, half of them each way; labels become mixtures.
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]),
)
