# A ViT of 6 blocks without position encoding, to pretrain on single objects of the embedded
# benchmark; its siblings name the encoding, and nothing else.
_base_ = [
    "../_base_/models/classifier_vit.py",
    "../_base_/datasets/synthetic_crops.py",
    "../_base_/schedules/deit_300e.py",
    "../_base_/default_runtime/classification.py",
]

model = dict(
    data_preprocessor=dict(num_classes=8),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, depth=6, num_heads=4),
        img_size=(64, 96),
        out_indices=(5,),
        drop_path_rate=0.0,
        position_encodings=[],
    ),
    head=dict(num_classes=8, in_channels=128),
    train_cfg=dict(_delete_=True),  # mixtures of whole pictures would hide what lies where
)
train_cfg = dict(max_epochs=10, val_interval=10)
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=1, end=10, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=10), logger=dict(interval=25))
auto_scale_lr = dict(base_batch_size=32)
