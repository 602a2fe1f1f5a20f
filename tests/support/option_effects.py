"""The observed effect of every field of `Config`: one sentence, and the tests that observe it.

At least one of these tests fails if distdl ignores its field: they compare with a number, a formula, a recorded call or
a planted delay, not with a second run that uses the same option.
"""

EFFECTS: dict[str, tuple[str, ...]] = {
    "name": (
        "The default run folder begins with the name.",
        "training/test_entry.py::test_a_new_run_has_a_folder_and_no_start",
    ),
    "epochs": (
        "A training of 3 steps per epoch ends after epochs x 3 steps.",
        "training/test_trainer.py::test_a_training_ends_after_its_epochs_steps_or_time",
    ),
    "max_steps": (
        "A training ends after this many steps, which its schedule spans.",
        "training/test_trainer.py::test_a_training_ends_after_its_epochs_steps_or_time",
        "training/test_trainer.py::test_the_schedule_spans_the_steps_of_the_training",
    ),
    "max_time": (
        "A training whose time is over stops with this reason.",
        "training/test_trainer.py::test_a_training_ends_after_its_epochs_steps_or_time",
    ),
    "seed": (
        "Another seed gives other weights, another order of samples and other random augmentation.",
        "training/test_building.py::test_initial_weights_depend_only_on_the_seed",
        "data/loaders/test_spec.py::test_parameters_are_drawn_in_training_only_by_seed_epoch_and_sample",
    ),
    "deterministic": (
        "torch's flags for deterministic operators and cuDNN's benchmark are set.",
        "training/test_numerics.py::test_a_trainer_applies_the_settings",
        "training/test_numerics.py::test_settings_follow_the_configuration_regardless_of_previous_ones",
    ),
    "strategy": (
        "The strategy has the class of this name.",
        "strategies/test_base.py::test_the_strategy_of_a_configuration",
    ),
    "loss": (
        "The loss has the value of this function.",
        "optim/test_losses.py::test_a_loss_of_another_package_returns_a_mean_or_values",
        "optim/test_losses.py::test_a_function_of_torch_is_a_loss",
    ),
    "metrics": (
        "Each of these metrics is computed, with a value worked out by hand.",
        "training/test_metrics.py::test_metrics_are_built_with_their_settings",
    ),
    "trackers": (
        "Each of these trackers receives the result.",
        "training/test_session.py::test_a_tracker_receives_the_result",
    ),
    "options": (
        "Components receive their settings: the network's width, the optimizer's eps, the k of a metric.",
        "training/test_building.py::test_options_reach_the_network_and_the_optimizer",
        "training/test_metrics.py::test_metrics_are_built_with_their_settings",
    ),
    "evaluate_every": (
        "Evaluations are after each second epoch and after the last.",
        "training/test_trainer.py::test_every_second_epoch_and_the_last_are_evaluated",
    ),
    "progress": (
        "A display is among the callbacks, or none.",
        "training/test_session.py::test_callbacks_of_rank_0",
    ),
    "log_every_s": (
        "0 gives a row per step, a long interval gives none before the end of the epoch.",
        "training/callbacks/test_metrics.py::test_rows_are_written_at_the_interval",
    ),
    "out": (
        "The run is in this folder.",
        "training/test_session.py::test_a_training_ends_with_a_result_rows_and_a_checkpoint",
    ),
    "resume": (
        "A training begins at the step of the run that it resumes.",
        "training/test_session.py::test_a_resume_names_its_source_and_changes",
    ),
    "data.name": (
        "The set of this name or folder is read.",
        "data/sets/test_load.py::test_real_sets_are_read_completely",
        "data/storage/test_folders.py::test_split_folders",
    ),
    "data.root": (
        "The set is found in this folder.",
        "data/sets/test_load.py::test_the_root_may_be_the_folder_of_the_set",
    ),
    "data.loader": (
        "The loader has this name.",
        "data/loaders/test_loaders.py::test_the_loader_is_the_configured_one",
    ),
    "data.batch_size": (
        "A step has this many samples per rank.",
        "core/test_config.py::test_samples_per_step_and_on_the_largest_rank",
        "data/loaders/test_spec.py::test_samples_of_a_step",
    ),
    "data.global_batch": (
        "A step has this many samples over all ranks.",
        "core/test_config.py::test_samples_per_step_and_on_the_largest_rank",
        "data/loaders/test_loaders.py::test_a_global_batch_is_divided_among_the_ranks",
    ),
    "data.eval_batch_size": (
        "A step of an evaluation has this many samples.",
        "data/loaders/test_spec.py::test_samples_of_a_step",
    ),
    "data.workers": (
        "The loader has this many worker processes.",
        "data/loaders/test_workers.py::test_close_ends_all_worker_processes",
    ),
    "data.image_size": (
        "Images and the network's input have this size.",
        "data/loaders/test_spec.py::test_image_sizes_in_pixels",
        "training/test_building.py::test_the_network_has_the_sizes_of_the_data",
    ),
    "data.validation": (
        "This share of each class is in the validation split.",
        "data/sets/test_load.py::test_the_validation_split_is_stratified_and_depends_on_the_seed",
    ),
    "data.split_seed": (
        "Another seed gives other samples for validation.",
        "data/sets/test_load.py::test_the_validation_split_is_stratified_and_depends_on_the_seed",
        "data/storage/test_folders.py::test_class_folders_are_divided_by_the_seed",
    ),
    "data.limit": (
        "The training split has this many samples, equally many of each class.",
        "data/sets/test_load.py::test_a_limit_takes_equally_many_samples_of_each_class",
    ),
    "data.labels": (
        "Samples and labels are those of the file.",
        "data/sets/test_relabel.py::test_the_file_selects_the_training_samples_and_labels",
    ),
    "data.normalize": (
        "Mean and deviation are those of the set, of ImageNet, or 0 and 1.",
        "data/sets/test_load.py::test_statistics_follow_the_configuration",
    ),
    "data.mean": (
        "The mean is subtracted.",
        "data/sets/test_load.py::test_statistics_follow_the_configuration",
    ),
    "data.std": (
        "The deviation is divided by.",
        "data/sets/test_load.py::test_statistics_follow_the_configuration",
    ),
    "data.augment.flip": (
        "This share of the images is mirrored.",
        "data/augment/test_random_params.py::test_shifts_and_flips_are_uniform",
        "data/loaders/test_resident.py::test_images_are_shifted_and_flipped_by_their_parameters",
    ),
    "data.augment.crop": (
        "Images are shifted by up to this many pixels, uniformly.",
        "data/augment/test_random_params.py::test_shifts_and_flips_are_uniform",
        "data/loaders/test_resident.py::test_images_are_shifted_and_flipped_by_their_parameters",
    ),
    "data.augment.random_resized_crop": (
        "Windows differ by seed, epoch and sample, and replace the resize.",
        "data/loaders/test_samples.py::test_random_windows_depend_on_seed_epoch_and_sample",
        "data/loaders/test_batch_transform.py::TestTransform::test_windows_replace_the_resize_in_training_only",
    ),
    "data.augment.color_jitter": (
        "This share of the images has factors, which are uniform.",
        "data/augment/test_random_params.py::test_jitter_factors_are_neutral_or_uniform",
    ),
    "data.augment.rotation": (
        "Angles are uniform up to this many degrees.",
        "data/augment/test_random_params.py::test_nonzero_angles_are_uniform",
    ),
    "data.augment.rotation_probability": (
        "This share of the angles is not 0.",
        "data/augment/test_random_params.py::test_nonzero_angles_are_uniform",
    ),
    "data.augment.mixup": (
        "Shares of the two images have the Beta distribution.",
        "data/augment/test_random_params.py::test_mixing_shares_are_beta_distributed",
        "data/loaders/test_batch_transform.py::TestTransform::test_mixing_applies_in_training_only",
    ),
    "data.augment.cutmix": (
        "Shares of the two images have the Beta distribution; with mixup, half of the samples get it.",
        "data/augment/test_random_params.py::test_mixing_shares_are_beta_distributed",
        "data/augment/test_random_params.py::test_half_of_the_samples_get_mixup_and_half_cutmix",
    ),
    "data.augment.extra": (
        "The images are those that the function of another package returns.",
        "data/augment/test_extra.py::test_augmentations_apply_in_training_only",
    ),
    "data.ten_crop": (
        "A test image has ten crops.",
        "data/loaders/test_loaders.py::test_ten_crops_apply_to_the_test_split_only",
    ),
    "data.drop_last": (
        "The last samples of an epoch are left out.",
        "data/loaders/test_spec.py::test_drop_last_applies_in_training_only",
        "data/loaders/test_loaders.py::test_drop_last_omits_an_incomplete_step",
    ),
    "data.on_error": (
        "skip: the next readable image replaces a damaged one, and evaluation leaves it out.",
        "data/loaders/test_samples.py::TestUnreadable::test_training_uses_the_next_readable_file",
        "data/test_images.py::test_evaluation_omits_unreadable_samples",
    ),
    "data.max_pixels": (
        "A larger image is unreadable.",
        "data/loaders/test_samples.py::TestUnreadable::test_an_image_above_max_pixels_is_unreadable",
        "data/test_images.py::test_max_pixels_holds_in_every_loader",
    ),
    "model.name": (
        "The network is the one of this name, also of another package.",
        "models/test_build.py::test_a_users_network_receives_its_settings",
    ),
    "model.weights": (
        "The network has the weights of the file or run folder.",
        "models/test_weights.py::test_each_file_format_is_loaded",
        "models/test_weights.py::test_weights_of_a_run_folder_are_its_newest_checkpoint",
    ),
    "model.weights_part": (
        "One part has the weights of the file, the other its random ones.",
        "models/test_weights.py::test_one_part_may_start_from_scratch",
    ),
    "model.trainable_features": (
        "The blocks of the features require gradients as the mask states.",
        "models/test_freezing.py::test_masks_apply_per_block_and_the_last_value_to_the_rest",
    ),
    "model.trainable_classifier": (
        "The blocks of the classifier require gradients as the mask states.",
        "models/test_freezing.py::test_the_classifier_has_its_own_mask",
    ),
    "model.freeze": (
        "Parameters that match do not require gradients.",
        "models/test_freezing.py::test_patterns_select_frozen_and_trained_parameters",
    ),
    "model.train_only": (
        "Only parameters that match require gradients.",
        "models/test_freezing.py::test_patterns_select_frozen_and_trained_parameters",
    ),
    "model.dropout": (
        "Dropout layers have this rate.",
        "models/test_build.py::test_dropout_is_set_or_refused",
    ),
    "optim.name": (
        "Weights after four steps are those of the formula of this name.",
        "optim/test_optimizers.py::test_an_optimizer_matches_its_formula",
        "optim/test_optimizers.py::test_lars_matches_its_paper",
    ),
    "optim.lr": (
        "Weights after four steps are those of the formula with this rate.",
        "optim/test_optimizers.py::test_an_optimizer_matches_its_formula",
    ),
    "optim.lr_reference_batch": (
        "The rate is lr times the ratio of the global batch to this one.",
        "training/test_building.py::test_the_learning_rate_is_scaled_to_the_global_batch",
        "optim/test_optimizers.py::test_groups_have_rates_by_name_and_weight_decay_by_kind",
    ),
    "optim.lr_factors": (
        "The rate of each parameter is multiplied by the factor of the first pattern.",
        "optim/test_optimizers.py::test_groups_have_rates_by_name_and_weight_decay_by_kind",
    ),
    "optim.momentum": (
        "Weights after four steps are those of the formula with this momentum.",
        "optim/test_optimizers.py::test_an_optimizer_matches_its_formula",
    ),
    "optim.nesterov": (
        "Weights after four steps are those of Nesterov's formula.",
        "optim/test_optimizers.py::test_an_optimizer_matches_its_formula",
    ),
    "optim.betas": (
        "Weights after four steps are those of the formula with these rates.",
        "optim/test_optimizers.py::test_an_optimizer_matches_its_formula",
        "optim/test_optimizers.py::test_lamb_matches_its_paper",
    ),
    "optim.alpha": (
        "Weights after four steps are those of the formula with this rate.",
        "optim/test_optimizers.py::test_an_optimizer_matches_its_formula",
    ),
    "optim.eps": (
        "Weights after four steps are those of the formula with this constant.",
        "optim/test_optimizers.py::test_an_optimizer_matches_its_formula",
    ),
    "optim.weight_decay": (
        "Weights after four steps are those of the formula with this penalty.",
        "optim/test_optimizers.py::test_an_optimizer_matches_its_formula",
    ),
    "optim.decay_norm_and_bias": (
        "Biases have no weight decay and no layer-wise rate.",
        "optim/test_optimizers.py::test_groups_have_rates_by_name_and_weight_decay_by_kind",
        "optim/test_optimizers.py::test_biases_without_weight_decay_have_no_layer_wise_rate",
    ),
    "optim.label_smoothing": (
        "The loss is that of torch with this smoothing; the loss of an evaluation has none.",
        "optim/test_losses.py::test_cross_entropy_equals_torchs_and_is_evaluated_without_smoothing",
    ),
    "optim.clip_norm": (
        "A step changes the weights by lr times a gradient of at most this norm.",
        "strategies/test_base.py::test_a_step_changes_weights_by_the_rate_times_the_clipped_gradient",
    ),
    "optim.accumulate": (
        "A batch of 32 passes the network in parts of 8.",
        "training/test_trainer.py::test_a_batch_is_trained_in_equal_micro_batches",
    ),
    "optim.ema": (
        "Evaluated weights are the average, worked out by hand.",
        "training/test_trainer.py::test_the_average_of_the_weights_is_evaluated",
    ),
    "schedule.name": (
        "The rate at known epochs is that of the schedule.",
        "optim/test_schedules.py::test_known_values",
    ),
    "schedule.warmup_epochs": (
        "The rate rises from 1 % over these epochs.",
        "optim/test_schedules.py::test_known_values",
    ),
    "schedule.step_epochs": (
        "The rate drops at multiples of these epochs.",
        "optim/test_schedules.py::test_known_values",
    ),
    "schedule.milestones": (
        "The rate drops at these epochs.",
        "optim/test_schedules.py::test_known_values",
    ),
    "schedule.gamma": (
        "A drop multiplies the rate by this factor.",
        "optim/test_schedules.py::test_known_values",
    ),
    "schedule.final_lr": (
        "The cosine ends at this share.",
        "optim/test_schedules.py::test_known_values",
    ),
    "schedule.warmup_fraction": (
        "The rate is at its peak at this share of the run.",
        "optim/test_schedules.py::test_known_values",
    ),
    "compute.device": (
        "The device is that of this kind on a simulated host with GPUs.",
        "runtime/test_device.py::test_auto_warns_when_it_leaves_gpus_unused",
        "runtime/test_device.py::test_a_gpu_is_selected_and_made_current",
    ),
    "compute.precision": (
        "The forward pass has the type; TF32 and the loss scale are on or off.",
        "training/test_numerics.py::test_the_forward_pass_has_the_configured_precision",
        "training/test_numerics.py::test_settings_follow_the_configuration_regardless_of_previous_ones",
        "strategies/test_base.py::test_the_loss_is_scaled_only_in_fp16",
        "strategies/test_base.py::test_a_restored_state_continues_with_the_same_bits",
    ),
    "compute.channels_last": (
        "Kernels and images have the strides of NHWC.",
        "training/test_building.py::test_the_memory_format_is_configurable",
        "data/loaders/test_batch_transform.py::TestTransform::test_batches_have_the_configured_precision_and_layout",
    ),
    "compute.compile": (
        "torch.compile is called.",
        "training/test_building.py::test_a_network_is_compiled_if_configured",
    ),
    "compute.cuda_graphs": (
        "torch.compile is called with the mode that records graphs.",
        "training/test_building.py::test_a_network_is_compiled_if_configured",
    ),
    "compute.threads": (
        "torch has this many threads, and the rank is not pinned.",
        "runtime/test_device.py::test_other_ranks_are_not_pinned",
    ),
    "checkpoint.every_epochs": (
        "A checkpoint is due after every n-th epoch.",
        "training/test_saving.py::test_checkpoints_that_are_due_at_step_10_of_epoch_2",
    ),
    "checkpoint.every_steps": (
        "A checkpoint is due at every n-th step.",
        "training/test_saving.py::test_checkpoints_that_are_due_at_step_10_of_epoch_2",
        "training/test_trainer.py::test_a_step_at_the_end_of_an_epoch_is_saved_once_after_its_evaluation",
    ),
    "checkpoint.keep": (
        "This many newest checkpoints are in the folder, in addition to the best.",
        "training/test_trainer.py::test_the_best_and_the_newest_checkpoints_are_kept_and_the_best_is_tested",
    ),
    "checkpoint.best": (
        "The checkpoint with the highest accuracy, or the lowest loss, is kept and tested.",
        "training/test_trainer.py::test_the_best_and_the_newest_checkpoints_are_kept_and_the_best_is_tested",
    ),
    "ddp.bucket_mb": (
        "DDP's buckets have this size.",
        "strategies/test_ddp.py::test_a_bucket_has_the_configured_size",
    ),
    "ddp.compress": (
        "Weights differ from the uncompressed ones by the rounding of float16 or bfloat16, or by PowerSGD's error.",
        "strategies/test_ddp.py::test_compression_changes_the_weights_by_rounding_only",
        "strategies/test_powersgd.py::test_compression_begins_after_ten_steps_and_a_higher_rank_is_nearer",
    ),
    "ddp.powersgd_rank": (
        "A higher rank is nearer to the uncompressed weights.",
        "strategies/test_powersgd.py::test_compression_begins_after_ten_steps_and_a_higher_rank_is_nearer",
    ),
    "ddp.timeout_s": (
        "The process group has this timeout.",
        "strategies/test_ddp.py::test_setup_joins_the_group_with_the_configured_timeout",
    ),
    "horovod.fusion_mb": (
        "Horovod's variable has this many bytes.",
        "strategies/test_horovod.py::test_variables_contain_only_differences_from_horovods_defaults",
        "strategies/test_horovod.py::test_horovod_receives_the_settings",
    ),
    "horovod.cycle_ms": (
        "Horovod's variable has this value.",
        "strategies/test_horovod.py::test_variables_contain_only_differences_from_horovods_defaults",
    ),
    "horovod.compress": (
        "A step subtracts the gradient rounded to float16.",
        "strategies/test_horovod.py::test_weights_of_two_steps",
    ),
    "horovod.adasum": (
        "Horovod's optimizer combines by Adasum, which gloo refuses.",
        "strategies/test_horovod.py::test_horovod_receives_the_settings",
        "strategies/test_horovod.py::test_options_that_gloo_does_not_support_are_refused",
    ),
    "horovod.backward_passes_per_step": (
        "Every second step updates the weights, by the mean of two gradients.",
        "strategies/test_horovod.py::test_weights_of_two_steps",
    ),
    "horovod.hierarchical": (
        "Horovod's variable is set; gloo refuses it.",
        "strategies/test_horovod.py::test_variables_contain_only_differences_from_horovods_defaults",
        "strategies/test_horovod.py::test_options_that_gloo_does_not_support_are_refused",
    ),
    "horovod.autotune": (
        "Horovod's variables are set, and its log is in the run folder.",
        "strategies/test_horovod.py::test_variables_contain_only_differences_from_horovods_defaults",
        "strategies/test_horovod.py::test_autotune_log_and_timeline_are_in_the_run_folder",
    ),
    "horovod.timeline": (
        "Horovod's variable is set, and its timeline is in the run folder.",
        "strategies/test_horovod.py::test_variables_contain_only_differences_from_horovods_defaults",
        "strategies/test_horovod.py::test_autotune_log_and_timeline_are_in_the_run_folder",
    ),
    "deepspeed.stage": (
        "DeepSpeed's configuration has this stage, and a file may not contradict it.",
        "strategies/test_deepspeed_config.py::test_settings_are_derived_from_the_configuration",
    ),
    "deepspeed.offload": (
        "DeepSpeed's configuration offloads the optimizer to the CPU.",
        "strategies/test_deepspeed_config.py::test_settings_are_derived_from_the_configuration",
    ),
    "deepspeed.config": (
        "DeepSpeed's configuration has the settings of the file.",
        "strategies/test_deepspeed_config.py::test_a_file_adds_to_the_settings",
    ),
    "ps.servers": (
        "The last ranks of the job serve.",
        "strategies/paramserver/test_worker.py::test_setup_divides_the_ranks_and_sets_timeout_and_precision",
    ),
    "ps.mode": (
        "Each push is an update in async, and all pushes together are one in sync.",
        "strategies/paramserver/test_server.py::test_without_a_barrier_each_push_is_an_update_with_its_staleness",
    ),
    "ps.staleness": (
        "The fastest worker waits when it is this many steps ahead.",
        "strategies/paramserver/test_server.py::test_the_fastest_worker_waits_at_the_bound",
    ),
    "ps.assign": (
        "Servers have the elements that are worked out by hand.",
        "strategies/paramserver/test_worker.py::test_servers_have_the_tensors_of_the_assignment",
    ),
    "ps.wire": (
        "Workers and servers exchange bfloat16.",
        "strategies/paramserver/test_worker.py::test_setup_divides_the_ranks_and_sets_timeout_and_precision",
    ),
    "ps.overlap": (
        "All servers have been pushed to when backward returns, or none.",
        "strategies/paramserver/test_worker.py::test_gradients_are_pushed_during_backward_if_pushes_overlap_with_it",
    ),
    "ps.compute": (
        "Forward and backward wait for the seconds of the file.",
        "strategies/paramserver/test_worker.py::test_recorded_times_are_waited_for_instead_of_computing",
    ),
    "ps.tolerate_worker_loss": (
        "The others continue after a worker has disconnected.",
        "strategies/paramserver/test_server.py::test_a_lost_worker_may_be_tolerated",
    ),
    "ps.timeout_s": (
        "A worker names the server that is silent for longer.",
        "strategies/paramserver/test_worker.py::test_setup_divides_the_ranks_and_sets_timeout_and_precision",
    ),
    "telemetry.hz": (
        "The sampler has this period; 0 writes no file.",
        "training/callbacks/test_telemetry.py::test_devices_and_host_are_sampled_at_the_rate",
    ),
    "telemetry.price_per_hour": (
        "100 s of one device cost 100/3600 of it.",
        "training/test_summary.py::test_times_energy_and_cost_of_a_run",
    ),
    "telemetry.tensorboard": (
        "TensorBoard is among the trackers, and the older option is a warning.",
        "training/trackers/test_base.py::test_the_older_field_adds_tensorboard_once",
        "training/test_session.py::test_the_older_option_for_a_tracker_gives_a_warning",
    ),
    "telemetry.profile_steps": (
        "The profile ends after this many steps.",
        "training/callbacks/test_telemetry.py::test_the_steps_after_the_tenth_are_profiled",
    ),
    "predict.target": (
        "A forecast of this accuracy is among the callbacks.",
        "training/test_session.py::test_callbacks_of_rank_0",
    ),
    "slurm.total_lifetime_s": (
        "The last slice ends with the lifetime.",
        "launchers/test_slices.py::test_the_last_slice_stops_at_the_end_of_the_lifetime",
        "launchers/test_slices.py::test_the_lifetime_counts_compute_time_without_waiting",
    ),
    "slurm.slice_s": (
        "A slice has this length.",
        "launchers/test_slices.py::test_a_slice_is_recorded",
    ),
    "slurm.max_restarts": (
        "This many consecutive failures without a checkpoint end the chain.",
        "launchers/test_slices.py::test_a_crash_loop_is_consecutive_failures_without_a_checkpoint",
    ),
}
