# UperNet on the embedded benchmark, a ViT of 6 blocks without position encoding; its siblings name
# the encoding, and nothing else.
_base_ = [
    "../_base_/models/upernet_vit_mln_slim.py",
    "../_base_/datasets/synthetic_seg.py",
    "../_base_/schedules/vit_160k.py",
    "../_base_/default_runtime/segmentation.py",
]

model = dict(
    data_preprocessor=dict(size=(160, 224)),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, depth=6, num_heads=4),
        img_size=(160, 224),
        out_indices=(0, 1, 3, 5),
        position_encodings=[],
    ),
    neck=dict(in_channels=[128, 128, 128, 128]),
    decode_head=dict(num_classes=13),
    auxiliary_head=dict(num_classes=13),
)
train_cfg = dict(max_iters=600, val_interval=600)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="PolyLR", eta_min=0.0, power=1.0, begin=50, end=600, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=600), logger=dict(interval=10))
auto_scale_lr = dict(base_batch_size=8)
