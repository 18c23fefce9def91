_base_ = "./detr_r18-nope_1xb8-8e_synthetic-160x224.py"

model = dict(
    encoder=dict(position_encodings=[dict(type="DetrSine"), dict(type="RoPE", variant="mixed")])
)
