"""Two trainers of one's own, for docs/own_trainer.md: a plain loop, and Lightning."""

import torch


def train(model, context):
    """A plain loop: the library's batches and loss, an optimiser and a schedule of one's own."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=context.lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=context.epochs)
    for epoch in range(context.epochs):
        model.train()
        for batch in context.batches(epoch):
            loss = context.loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        context.tell(epoch + 1, context.epochs, epoch=epoch + 1, loss=loss.item())
    return context.evaluate(model)  # {"accuracy": [1.0, 0.0, …], "loss": […]}: a value for each test item


def train_with_lightning(model, context):
    """Lightning's Trainer around the same network, batches and loss."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = model  # trained in place: the study saves it and measures it

        def training_step(self, batch, number):
            loss = context.loss(self.network, batch)
            context.tell(self.global_step + 1)
            return loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=context.lr)

        def transfer_batch_to_device(self, batch, device, number):
            return batch.to(device)

    class Batches(torch.utils.data.IterableDataset):
        epoch = -1

        def __iter__(self):
            self.epoch += 1
            return context.batches(self.epoch)

    trainer = lightning.Trainer(
        max_epochs=context.epochs,
        accelerator="cpu" if context.device == "cpu" else "auto",
        default_root_dir=context.folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(Batches(), batch_size=None))
    return context.evaluate(model)
