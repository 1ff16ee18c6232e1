import pytest
from problems import PROBLEMS, TYPES


@pytest.fixture(params=PROBLEMS, ids=lambda problem: problem.name)
def problem(request):
    return request.param


@pytest.fixture(params=TYPES)
def dtype(request):
    return TYPES[request.param]
