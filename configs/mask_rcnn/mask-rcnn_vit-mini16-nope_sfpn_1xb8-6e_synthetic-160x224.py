# Mask R-CNN on the embedded benchmark, a ViT of 6 blocks without position encoding; its siblings
# name the encoding, and nothing else.
_base_ = [
    "../_base_/models/mask-rcnn_vit_sfpn_slim.py",
    "../_base_/datasets/synthetic_instance.py",
    "../_base_/schedules/vit_1x.py",
    "../_base_/default_runtime/detection.py",
]

model = dict(
    # Changes nothing at 160 x 224, and lets other sizes be tested that are multiples of a patch.
    data_preprocessor=dict(pad_size_divisor=16),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, depth=6, num_heads=4),
        img_size=(160, 224),
        out_indices=(5,),
        position_encodings=[],
    ),
    neck=dict(in_channels=128),
    roi_head=dict(bbox_head=dict(num_classes=12), mask_head=dict(num_classes=12)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)),
)
train_cfg = dict(max_epochs=6, val_interval=6)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=6, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=8)
