"""Small pairs in the files and folders of the development pairs."""

import numpy as np
import SimpleITK as sitk

SHAPE = (12, 14, 10)


def image_of(array, spacing=(2.0, 2.0, 2.0), origin=(9.0, 13.0, -11.0), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1)):
    """A SimpleITK image; of vectors from four axes."""
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def scaled(field, factor):
    """The vectors of an image times `factor`, which SimpleITK has no filter for."""
    image = sitk.GetImageFromArray(factor * sitk.GetArrayFromImage(field), isVector=True)
    image.CopyInformation(field)
    return image


def write_pair(pair, displacement):
    """Files of `pair`: noise, labels 1 and 2 two voxels higher in the moving image, the same true `displacement` (LPS
    mm) everywhere. Returns the pair."""
    pair.folder.mkdir(parents=True, exist_ok=True)
    image = image_of(np.random.default_rng(0).random(SHAPE, np.float32))
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:8, 4:10, 3:5], labels[4:8, 4:10, 5:7] = 1, 2
    for file in (pair.fixed_file, pair.moving_file):
        sitk.WriteImage(image, str(file))
    sitk.WriteImage(image_of((labels > 0).astype(np.uint8)), str(pair.folder / "fixed_mask.nii.gz"))
    sitk.WriteImage(image_of(labels), str(pair.folder / "fixed_label.nii.gz"))
    sitk.WriteImage(image_of(np.roll(labels, 2, axis=0)), str(pair.data / pair.subject / "moving_label.nii.gz"))
    if pair.level != "inter":
        import nibabel

        truth = np.broadcast_to(np.float32(displacement) * (-1, -1, 1), (*SHAPE[::-1], 3))  # RAS
        nibabel.save(nibabel.Nifti1Image(truth.astype(np.float32), np.eye(4)),
                     pair.folder / "disp_fixed2moving_mm.nii.gz")
    return pair
