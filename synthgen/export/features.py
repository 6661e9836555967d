"""Arrow schemas as `datasets` features: for the metadata of Parquet files, and for the YAML of the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from synthgen.export.files import JSON_LINES, ExportedFile, config_directory


def describe_features(schema: pa.Schema) -> dict[str, Any]:
    """Return the features of `schema` in the JSON form of `datasets` (`Features.to_dict`).

    Lists are written in the form that every version reads; the `List` of datasets 4 is unknown to version 3.
    """
    return {field.name: _describe_type(field.type) for field in schema}


def dataset_configs(files: Sequence[ExportedFile], schemas: Mapping[str, pa.Schema]) -> dict[str, Any]:
    """Return the `configs` and `dataset_info` of the card's YAML header.

    Args:
        files: all files of the data set.
        schemas: schema by config, in the order in which they are listed.

    Splits without rows are left out, because `datasets` cannot load a config that has one; a config without any row
    keeps its train split, which streams as an empty, typed data set. JSON lines are not listed: one data set has one
    file format.
    """
    configs, infos = [], []
    for name, schema in schemas.items():
        if name == JSON_LINES:
            continue
        own = [file for file in files if file.config == name]
        splits = list(dict.fromkeys(file.split for file in own if file.rows)) or ["train"]
        directory = config_directory(name)
        data_files = [{"split": split, "path": f"{directory}/{split}-*"} for split in splits]
        configs.append({"config_name": name, "data_files": data_files})
        infos.append(
            {
                "config_name": name,
                "features": _list_features(schema),
                "splits": [_describe_split(split, own) for split in splits],
                "download_size": sum(file.file_bytes for file in own if file.split in splits),
                "dataset_size": sum(file.memory_bytes for file in own if file.split in splits),
            }
        )
    return {"configs": configs, "dataset_info": infos}


def _describe_split(split: str, files: Sequence[ExportedFile]) -> dict[str, Any]:
    return {
        "name": split,
        "num_bytes": sum(file.memory_bytes for file in files if file.split == split),
        "num_examples": sum(file.rows for file in files if file.split == split),
    }


def _describe_type(type_: pa.DataType) -> Any:
    if isinstance(type_, pa.ListType):
        return [_describe_type(type_.value_type)]
    if isinstance(type_, pa.StructType):
        return {field.name: _describe_type(field.type) for field in type_}
    if isinstance(type_, pa.JsonType):
        return {"_type": "Json"}
    return {"dtype": _name_type(type_), "_type": "Value"}


def _list_features(fields: pa.Schema | pa.StructType) -> list[dict[str, Any]]:
    """The features in the card's form, where a list of structs is a list of its fields."""
    return [{"name": field.name, **_list_type(field.type)} for field in fields]


def _list_type(type_: pa.DataType) -> dict[str, Any]:
    if isinstance(type_, pa.ListType):
        value = type_.value_type
        return {"list": _list_features(value) if isinstance(value, pa.StructType) else _name_type(value)}
    if isinstance(type_, pa.StructType):
        return {"struct": _list_features(type_)}
    return {"dtype": _name_type(type_)}


def _name_type(type_: pa.DataType) -> str:
    if isinstance(type_, pa.JsonType):
        return "json"
    return {"double": "float64", "float": "float32"}.get(str(type_), str(type_))
