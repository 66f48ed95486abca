import itk
import pytest


@pytest.fixture(params=["float", "double"])
def pixel(request):
    """Type of the pixels of both images."""
    return {"float": itk.F, "double": itk.D}[request.param]
