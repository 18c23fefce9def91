"""Export the backbone of a trained model: as weights for other projects, or as a graph.

python tools/export_backbone.py CONFIG CHECKPOINT --out exported --format state_dict,timm,onnx
"""

from mmplugins.export.command import main

if __name__ == "__main__":
    main()
