"""The boxes that `timm-mobilenext detect predict` wrote: drawn, thinned out, and measured against VOC's files."""
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import supervision as sv
from supervision.metrics import MeanAveragePrecision

cells, found, names = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), sys.argv[3].split(',')
truth = sv.DetectionDataset.from_pascal_voc(str(cells / 'JPEGImages'), str(cells / 'Annotations'))
targets = {Path(file).stem: (image, target) for file, image, target in truth}
measured = MeanAveragePrecision()
count = kept = 0
for photograph in found:
    boxes = photograph['boxes']
    detections = sv.Detections(
        xyxy=np.array([box['box'] for box in boxes]), confidence=np.array([box['score'] for box in boxes]),
        class_id=np.array([truth.classes.index(box['class']) for box in boxes]))
    image, target = targets[Path(photograph['file']).stem]
    if Path(photograph['file']).stem in names:
        measured.update(detections, target)
    sure = detections[detections.confidence > 0.35]
    count, kept = count + len(sure), kept + len(sure.with_nms(0.1, class_agnostic=True))
annotated = sv.BoxAnnotator().annotate(image.copy(), sure)
cv2.imwrite('boxes.png', annotated)
print(json.dumps(dict(
    classes=truth.classes, ap50=measured.compute().map50, count=count, kept=kept,
    drawn=float((annotated != image).any(2).mean()))))
