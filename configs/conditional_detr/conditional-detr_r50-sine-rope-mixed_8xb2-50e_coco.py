_base_ = "./conditional-detr_r50-nope_8xb2-50e_coco.py"

model = dict(
    encoder=dict(position_encodings=[dict(type="DetrSine"), dict(type="RoPE", variant="mixed")])
)
